"""The log: one line each, bounded, and honest about what it held back."""

import logging
import os
import sys
from pathlib import Path

import pytest

from appliance.ipc import log


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_with_its_process(capsys):
    log.set_up_logging("vad", "info")
    logger = logging.getLogger("x")
    logger.info("first\nsecond\r\nthird\u2028fourth")
    logger.debug("not asked for")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("vad         INFO    first | second | third | fourth")


def test_a_traceback_is_one_line_too(capsys):
    log.set_up_logging("asr", "info")
    try:
        raise RuntimeError("broken\nthing")
    except RuntimeError:
        logging.getLogger("x").exception("job failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "job failed | Traceback" in line
    assert "RuntimeError: broken | thing" in line


def test_a_flood_from_one_place_is_held_back_and_counted(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    log.set_up_logging("tts", "info")
    logger = logging.getLogger("x")

    def flood(count):
        for number in range(count):
            logger.warning("underrun %d", number)

    flood(1_000)
    logger.warning("another place")
    assert len(capsys.readouterr().err.splitlines()) == log._BURST + 1
    now[0] += 1.0
    flood(10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f"underrun 0 ({1_000 - log._BURST} like this held back)")
    assert lines[1].endswith("underrun 1")


def test_lines_carry_the_time_unless_the_journal_adds_it(capsys, monkeypatch):
    log.set_up_logging("llm", "info")
    logging.getLogger("x").info("a")
    monkeypatch.setattr(log, "_to_journal", lambda: True)
    log.set_up_logging("llm", "info")
    logging.getLogger("x").info("b")
    with_time, without = capsys.readouterr().err.splitlines()
    assert with_time[2] == with_time[5] == ":"
    assert without.startswith("llm ")


def test_an_inherited_journal_variable_does_not_make_a_terminal_the_journal(monkeypatch):
    with Path("/dev/null").open("w") as elsewhere:
        monkeypatch.setattr(sys, "stderr", elsewhere)
        monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
        assert not log._to_journal()
        status = os.fstat(elsewhere.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert log._to_journal()

"""The command line where nothing runs: what cannot work is refused before anything is started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance import cli
from appliance.errors import ApplianceError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("APPLIANCE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(cli, "_with_appliance", lambda *_: pytest.fail("something was started"))
    return lambda *arguments: CliRunner().invoke(cli.app, arguments)


def refusal(result) -> str:
    assert isinstance(result.exception, ApplianceError), result.output
    assert result.stdout == ""
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", " "], "The question is empty."),
        (["ask", "missing.wav"], "There is no file missing.wav."),
        (["ask", "missing/file"], "There is no file missing/file."),
        (["ask", "./"], "is a folder."),
        (["ask", "Who?", "--out", "."], "is a folder."),
        (["ask", "Who?", "--out", "missing/reply.wav"], "There is no folder"),
        (["say", ""], "There is nothing to say."),
    ],
)
def test_what_cannot_work_is_refused_at_once(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(run(*arguments))


@pytest.mark.parametrize("text", ["How fast is 100 km/h?", "Why? " * 100, "and"])
def test_a_text_is_not_taken_for_a_file(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert cli._sound_file(text) is None


def test_a_file_is_taken_by_its_being_there_or_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recording").write_bytes(b"")
    assert cli._sound_file("recording") == Path("recording")
    assert cli._sound_file("my question.WAV") == Path("my question.WAV")


def test_status_says_that_nothing_runs(run):
    result = run("status")
    assert (result.exit_code, result.stdout) == (3, "not running (start: scripts/run)\n")


def test_a_key_and_its_meaning_stay_on_one_line_in_a_pipe(run):
    lines = run("config", "show").stdout.splitlines()
    assert all(" = " in line or line.startswith("[") for line in lines if line)

"""The conductor's checkpoint: for a successor, and never a reason to die."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.conductor.checkpoint import Checkpoint, CheckpointFile
from appliance.messages import Span


def owed(session_id: str, *, age_s: float = 0.0) -> Checkpoint:
    return Checkpoint(
        session_id=session_id,
        opened_ns=0,
        state="thinking",
        spans=(Span(1, 10, 20),),
        saved_ns=time.monotonic_ns() - int(age_s * 1e9),
    )


def test_a_successor_takes_what_is_owed_once(tmp_path: Path) -> None:
    both = (owed("local"), owed("remote.1"))
    CheckpointFile(tmp_path).save(both)
    assert CheckpointFile(tmp_path).take() == both
    assert CheckpointFile(tmp_path).take() == ()
    assert list(tmp_path.iterdir()) == []


def test_nothing_owed_leaves_nothing(tmp_path: Path) -> None:
    CheckpointFile(tmp_path).save((owed("local"),))
    CheckpointFile(tmp_path).save(())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93\xc0\xc0\xc0"])
def test_a_damaged_one_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "conductor.checkpoint").write_bytes(content)
    assert CheckpointFile(tmp_path).take() == ()


def test_what_was_owed_long_ago_is_owed_no_more(tmp_path: Path) -> None:
    CheckpointFile(tmp_path).save((owed("local", age_s=11), owed("remote.1", age_s=1)))
    assert [c.session_id for c in CheckpointFile(tmp_path).take()] == ["remote.1"]


def test_a_place_that_cannot_be_written_does_not_end_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CheckpointFile(tmp_path / "gone").save((owed("local"),))
    assert "would lose this turn" in caplog.text

"""The conductor's checkpoint: for a successor, and never a reason to die."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.conductor.checkpoint import CheckpointFile
from appliance.messages import Span

SPANS = (Span(1, 10, 20),)


def test_a_successor_takes_what_is_owed_once(tmp_path: Path) -> None:
    CheckpointFile(tmp_path).save("thinking", SPANS)
    taken = CheckpointFile(tmp_path).take()
    assert taken is not None
    assert (taken.state, taken.spans) == ("thinking", SPANS)
    assert CheckpointFile(tmp_path).take() is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_owed_leaves_nothing(tmp_path: Path) -> None:
    CheckpointFile(tmp_path).save("thinking", SPANS)
    CheckpointFile(tmp_path).save("idle", ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93\xc0\xc0\xc0"])
def test_a_damaged_one_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "conductor.checkpoint").write_bytes(content)
    assert CheckpointFile(tmp_path).take() is None


def test_a_place_that_cannot_be_written_does_not_end_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CheckpointFile(tmp_path / "gone").save("thinking", SPANS)
    assert "would lose this turn" in caplog.text

"""What a killed conductor leaves to its successor: the names of the open turns' audio."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.messages import FloorState, Span

logger = logging.getLogger(__name__)

MAX_AGE_NS = 10_000_000_000
"""Nobody waits for an answer from a predecessor for longer."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A turn that is owed an answer: names of audio, no audio and no words."""

    session_id: str
    opened_ns: int
    """Tells a remote session from another one in its slot; 0 for the local one."""
    state: FloorState
    spans: tuple[Span, ...]
    saved_ns: int


class CheckpointFile:
    """Keeps the open turns' checkpoints in the runtime folder, for a successor."""

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir / "conductor.checkpoint"

    def save(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Write what is owed, or remove the file when nothing is."""
        temporary = self._path.with_suffix(".new")
        try:
            if not checkpoints:
                self._path.unlink(missing_ok=True)
                return
            temporary.write_bytes(msgspec.msgpack.encode(checkpoints))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not end the conversation
            logger.warning("a restart now would lose this turn: %s", error)

    def take(self) -> tuple[Checkpoint, ...]:
        """What a predecessor owed a moment ago. Removes the file."""
        try:
            content = self._path.read_bytes()
            checkpoints = msgspec.msgpack.decode(content, type=tuple[Checkpoint, ...])
        except (OSError, msgspec.DecodeError):
            return ()
        self._path.unlink(missing_ok=True)
        now_ns = time.monotonic_ns()
        return tuple(c for c in checkpoints if 0 <= now_ns - c.saved_ns < MAX_AGE_NS)

"""What a killed conductor leaves to its successor: the names of the open turn's audio."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from appliance.messages import FloorState, Span

logger = logging.getLogger(__name__)

_MAX_AGE_NS = 10_000_000_000


class Checkpoint(msgspec.Struct, frozen=True):
    """The turn that is owed an answer: names of audio, no audio and no words."""

    state: FloorState
    spans: tuple[Span, ...]
    saved_ns: int


class CheckpointFile:
    """Keeps the open turn's checkpoint in the runtime folder, for a successor."""

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir / "conductor.checkpoint"

    def save(self, state: FloorState, spans: tuple[Span, ...]) -> None:
        """Write what is owed, or remove the file when nothing is."""
        temporary = self._path.with_suffix(".new")
        checkpoint = Checkpoint(state=state, spans=spans, saved_ns=time.monotonic_ns())
        try:
            if not spans:
                self._path.unlink(missing_ok=True)
                return
            temporary.write_bytes(msgspec.msgpack.encode(checkpoint))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not end the conversation
            logger.warning("a restart now would lose this turn: %s", error)

    def take(self) -> Checkpoint | None:
        """What a predecessor owed a moment ago; None otherwise. Removes the file."""
        try:
            checkpoint = msgspec.msgpack.decode(self._path.read_bytes(), type=Checkpoint)
        except (OSError, msgspec.DecodeError):
            return None
        self._path.unlink(missing_ok=True)
        age_ns = time.monotonic_ns() - checkpoint.saved_ns
        return checkpoint if 0 <= age_ns < _MAX_AGE_NS else None

"""One session's hearing: the ring it is read from, and what follows from what is in it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from appliance.ipc.audio_ring import RingReader
from appliance.messages import BlocksReady, Message, SpeechEvent, SpeechPaused
from appliance.vad.scores import ScoredDetector
from appliance.vad.stream import SpeechStream
from appliance.vad.wake_word import WakeWordListener

REWIND_BLOCKS = 1_000
"""10 s: a successor hears again what its predecessor heard, and so arrives where it was."""
_RECENT_NS = 2_000_000_000


class Session:
    """Hears one session.

    Args:
        session_id: whose it is.
        reader: of its mic ring.
        stream: what it is judged by.
        detector: the stream's, which remembers its scores.
        listener: for its wake word, if it needs one.
    """

    def __init__(
        self,
        session_id: str,
        reader: RingReader,
        stream: SpeechStream,
        detector: ScoredDetector,
        listener: WakeWordListener | None = None,
    ) -> None:
        self.session_id = session_id
        self.reader = reader
        self.stream = stream
        self.detector = detector
        self._listener = listener

    def hear(self, announcement: BlocksReady) -> list[Message]:
        """Read what is announced; what there is to say, in order, calls by the wake word last."""
        self.reader.announced(announcement, rewind_blocks=REWIND_BLOCKS)
        blocks = self.reader.read()
        told = self.stream.step(
            blocks,
            direction_deg=announcement.direction_deg,
            far_end_active=announcement.far_end_active,
            aside=announcement.aside,
        )
        if self._listener is not None:
            calls = [call for block in blocks if (call := self._listener.take(block))]
            # not one of a backlog
            told += [c for c in calls if time.monotonic_ns() - c.end_ns < _RECENT_NS]
        return told


def paused_now(told: Sequence[Message]) -> SpeechPaused | None:
    """The pause that has just begun, if one has; of a backlog only the present counts."""
    events = [message for message in told if isinstance(message, SpeechEvent)]
    return events[-1] if events and isinstance(events[-1], SpeechPaused) else None

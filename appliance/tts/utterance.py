"""An utterance on its way from pieces of text to phrases that can be synthesised. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from appliance.messages import Speak
from appliance.tts.speech import pause_after_ms
from appliance.tts.text import Phrase, phrases


@dataclass(frozen=True)
class Task:
    """A phrase that waits for its synthesis."""

    phrase: Phrase
    index: int
    """Of the piece that it belongs to."""
    ends_piece: bool
    goes_on: bool
    """Whether more follows in the same breath."""
    pause_ms: float
    """Silence before it."""


@dataclass
class Utterance:
    """What tts knows of an utterance that has not ended."""

    id: str
    session_id: str
    received_ns: int
    speed: float = 1.0
    """How fast it is to be said; 1 is the voice's own."""
    served_ns: int = 0
    """When its synthesis last went on."""
    held: bool = False
    cancelled: bool = False
    complete: bool = False
    """Its last piece has come."""
    tasks: deque[Task] = field(default_factory=deque)
    """The first one may be under way."""
    synthesised_ns: int = 0
    underruns: int = 0
    error: str = ""
    """Why it was cancelled, if nobody wanted that."""
    _last_text: str = ""

    def add(self, piece: Speak, language: str) -> None:
        """Take the next piece; what comes after the last one or after a cancel is ignored."""
        if self.cancelled or self.complete:
            return
        self.complete = piece.last
        parts = phrases(piece.text, language)
        for number, phrase in enumerate(parts, start=1):
            is_end = number == len(parts)
            pause_ms = pause_after_ms(self._last_text) if self._last_text else 0.0
            goes_on = not (is_end and piece.last)
            self.tasks.append(Task(phrase, piece.index, is_end, goes_on, pause_ms))
            self._last_text = phrase.text

    def cancel(self) -> None:
        """Nothing more is synthesised of it."""
        self.cancelled = True
        self.tasks.clear()

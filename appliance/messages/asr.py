"""Speech to text: what asr is asked, what it answers."""

from __future__ import annotations

from typing import ClassVar

from appliance.messages.base import Message
from appliance.messages.rings import Span


class Transcribe(Message, frozen=True, kw_only=True):
    """Asks asr for the words in some audio."""

    topic: ClassVar[str] = "asr.transcribe"
    session_id: str
    request_id: str
    spans: tuple[Span, ...]
    utterance_id: str = ""
    """The speech it is, so that what was heard of it already need not be heard again."""
    quick: bool = False
    """A first impression will do: no second opinion on doubtful words, rather none."""


class Transcript(Message, frozen=True, kw_only=True):
    """The words; empty when nothing was said."""

    topic: ClassVar[str] = "asr.transcript"
    session_id: str
    request_id: str
    text: str
    audio_ms: float
    lost_blocks: int
    received_ns: int
    finished_ns: int
    engine: str
    error: str = ""
    avg_logprob: float = 0.0
    """How sure the decoder was, per token."""
    corrections: tuple[tuple[str, str], ...] = ()
    """What was heard and what the vocabulary made of it."""


class PartialTranscript(Message, frozen=True, kw_only=True):
    """The words so far, while speech goes on."""

    topic: ClassVar[str] = "asr.partial"
    session_id: str
    utterance_id: str
    stable: str
    """Words that further audio will not change."""
    tail: str
    """Words that may still change."""
    heard_ms: float
    """Audio behind it, from the start of the utterance's first span."""
    finished_ns: int


class DialogueWords(Message, frozen=True, kw_only=True):
    """What was just said by the appliance: names and words that the next question may repeat."""

    topic: ClassVar[str] = "conductor.dialogue"
    session_id: str
    text: str

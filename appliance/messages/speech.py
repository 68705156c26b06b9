"""Speech, as vad hears it begin, pause and end."""

from __future__ import annotations

from typing import ClassVar

from appliance.messages.base import Message
from appliance.messages.rings import Span


class SpeechEvent(Message, frozen=True, kw_only=True):
    """Base of what the vad process says about one stretch of speech."""

    session_id: str
    utterance_id: str
    spans: tuple[Span, ...]
    """The audio so far, pre-roll included; more than one when capture was restarted inside it."""
    speech_start_ns: int
    direction_deg: float | None = None
    """Where it comes from, counterclockwise in the array's plane; None when that is not known."""
    decided_ns: int = 0
    """Time of the audio by which it was known: a vad that was restarted tells the last seconds
    again. 0 where nobody can tell."""


class SpeechStarted(SpeechEvent, frozen=True, kw_only=True):
    """Someone began to speak."""

    topic: ClassVar[str] = "speech.started"


class SpeechPaused(SpeechEvent, frozen=True, kw_only=True):
    """A short silence: perhaps the end of the turn."""

    topic: ClassVar[str] = "speech.paused"
    speech_end_ns: int
    voiced_ms: float = 0.0
    """How much of it so far was surely a voice, and not the appliance's own."""
    talker_end_ns: int = 0
    """When the talker fell silent, before the room did: latency is counted from there. 0 where that
    is not known."""


class SpeechResumed(SpeechEvent, frozen=True, kw_only=True):
    """The pause was only a pause."""

    topic: ClassVar[str] = "speech.resumed"


class SpeechEnded(SpeechEvent, frozen=True, kw_only=True):
    """The silence lasted, or the stretch was cut because it grew too long (``more_follows``)."""

    topic: ClassVar[str] = "speech.ended"
    speech_end_ns: int
    more_follows: bool = False
    voiced_ms: float = 0.0
    """As in `SpeechPaused`."""
    talker_end_ns: int = 0
    """As in `SpeechPaused`."""


class SpeechContinued(SpeechEvent, frozen=True, kw_only=True):
    """Speech goes on; some times a second, so that its words can be had while it lasts."""

    topic: ClassVar[str] = "speech.continued"


class EndOfTurn(Message, frozen=True, kw_only=True):
    """What the sound of the speech before a pause says about whether its speaker has finished."""

    topic: ClassVar[str] = "speech.end_of_turn"
    session_id: str
    utterance_id: str
    speech_end_ns: int
    """The pause that was judged, as in its `SpeechPaused`."""
    probability: float
    """That the turn is complete."""
    decided_ns: int


class SpeechScores(Message, frozen=True, kw_only=True):
    """How likely each frame was speech, for the panel alone; sent at a pause and at an end. Neither
    audio nor words can be had from it."""

    topic: ClassVar[str] = "speech.scores"
    session_id: str
    scores: tuple[int, ...]
    """A frame each since the message before, of the last 15 s at most; 255 is certain."""
    end_ns: int
    """When the last of them ended."""
    frame_ms: float
    start_threshold: float
    """At or above it (of 1) a frame may begin speech."""
    stop_threshold: float
    """Below it a frame is silence."""


class NearEnd(Message, frozen=True, kw_only=True):
    """Perhaps someone begins to speak, or it was nothing: the reflex's signal, long before
    `SpeechStarted` is certain. Sent on every change."""

    topic: ClassVar[str] = "speech.near_end"
    session_id: str
    active: bool
    onset_ns: int
    """When the first frame that sounds like speech was captured."""
    far_end_active: bool
    """Whether the loudspeaker played meanwhile."""
    spans: tuple[Span, ...] = ()
    """What was heard, once it is over."""


class SpeechAside(Message, frozen=True, kw_only=True):
    """Speech beside the conversation, which makes no segment; twice a second while it lasts."""

    topic: ClassVar[str] = "speech.aside"
    session_id: str
    direction_deg: float
    voiced_ms: float
    """How much there was since the last of these messages."""


class WakeWord(Message, frozen=True, kw_only=True):
    """The appliance was called by its name."""

    topic: ClassVar[str] = "speech.wake_word"
    session_id: str
    name: str
    end_ns: int
    """When the word ended."""
    probability: float

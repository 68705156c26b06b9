"""Text to speech: what tts is to say, what the loudspeaker has played of it."""

from __future__ import annotations

from typing import ClassVar

from appliance.messages.base import Message


class Speak(Message, frozen=True, kw_only=True):
    """Asks tts to say a piece of an utterance; the last piece closes the utterance."""

    topic: ClassVar[str] = "tts.speak"
    session_id: str
    utterance_id: str
    index: int
    text: str
    last: bool
    hold: bool = False
    """Synthesise, but play nothing of this utterance before its `Release`."""


class Release(Message, frozen=True, kw_only=True):
    """What was held back of an utterance is wanted: play it."""

    topic: ClassVar[str] = "conductor.release"
    session_id: str
    utterance_id: str


class Pause(Message, frozen=True, kw_only=True):
    """Probably an interruption: silence at once, but keep what was not played for `Restore`."""

    topic: ClassVar[str] = "conductor.pause"
    session_id: str
    utterance_id: str


class Restore(Message, frozen=True, kw_only=True):
    """The near-end sound over an utterance was no interruption: go on at its full level."""

    topic: ClassVar[str] = "conductor.restore"
    session_id: str
    utterance_id: str


class PlaybackDucked(Message, frozen=True, kw_only=True):
    """The reflex: playback was lowered because someone seems to speak."""

    topic: ClassVar[str] = "tts.ducked"
    session_id: str
    utterance_id: str
    onset_ns: int
    """Of the near-end sound."""
    audible_ns: int
    """When the lowered level is reached in the air."""


class PlaybackStarted(Message, frozen=True, kw_only=True):
    """The first audible sample of an utterance reached the loudspeaker."""

    topic: ClassVar[str] = "tts.started"
    session_id: str
    utterance_id: str
    received_ns: int
    """When the first piece of text arrived at tts."""
    synthesised_ns: int
    """When its first audio was handed to the device."""
    audible_ns: int
    """When its first non-silent sample left the loudspeaker, by the device's clock."""


class PiecePlayed(Message, frozen=True, kw_only=True):
    """One piece of an utterance has been played to its end."""

    topic: ClassVar[str] = "tts.piece"
    session_id: str
    utterance_id: str
    index: int


class PlaybackEnded(Message, frozen=True, kw_only=True):
    """The utterance has drained from the device, or was cut."""

    topic: ClassVar[str] = "tts.ended"
    session_id: str
    utterance_id: str
    ended_ns: int
    played_text: str
    """The pieces that were really played, the last one possibly in part; a tts that was restarted
    inside the utterance knows only its own."""
    interrupted: bool
    underruns: int = 0
    error: str = ""

"""The conversation, as the conductor tells it: the floor, the company, finished turns."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from appliance.messages.base import Message

FloorState = Literal["idle", "listening", "thinking", "speaking"]


class Floor(Message, frozen=True, kw_only=True):
    """Who has the floor in a session; sent on every change. `GetFloor` asks for the present one."""

    topic: ClassVar[str] = "conductor.floor"
    session_id: str
    state: FloorState
    turn_id: str
    since_ns: int


class Company(Message, frozen=True, kw_only=True):
    """Who is in the conversation, by bearing; sent on every change."""

    topic: ClassVar[str] = "conductor.company"
    session_id: str
    partner_deg: float | None
    """With whom it is; None while nobody is known."""
    engaged: bool
    """The partner has the floor: speech from elsewhere is not for the appliance."""
    background_deg: tuple[float, ...] = ()
    """Where something talks without taking turns."""


class Cancel(Message, frozen=True, kw_only=True):
    """Drops a request (asr, llm) or an utterance (tts): whatever carries this id; ``*``: all of the
    session's."""

    topic: ClassVar[str] = "conductor.cancel"
    session_id: str
    id: str


class ServiceLevel(Message, frozen=True, kw_only=True):
    """What asr and llm shall use from now on, and why; also tells the panel."""

    topic: ClassVar[str] = "conductor.level"
    session_id: str
    level: int
    """0 is what is configured; each step up costs less."""
    asr_model: str
    llm_model: str
    history_turns: int
    first_clause_words: int
    reason: str
    since_ns: int


OverlapKind = Literal["interruption", "backchannel", "noise", "echo"]


class Overlap(msgspec.Struct, frozen=True):
    """Someone made a sound while the appliance spoke."""

    onset_ns: int
    end_ns: int
    kind: OverlapKind
    reason: str
    """What decided it, for a person."""
    ducked_ns: int = 0
    """When the loudspeaker was lower; 0 when it was not."""
    silent_ns: int = 0
    """When the loudspeaker fell silent; 0 when it did not."""


Outcome = Literal["answered", "interrupted", "stopped", "muted", "nothing_said", "lost"]
"""How a turn ended; ``stopped``: the user asked for silence and got it."""


class TurnRecord(Message, frozen=True, kw_only=True):
    """One line of the latency ledger, sent when the turn is over. The parts sum to the whole."""

    topic: ClassVar[str] = "conductor.turn"
    session_id: str
    turn_id: str
    source: Literal["speech", "text", "say"]
    outcome: Outcome
    transcript: str
    reply: str
    utterance_ids: tuple[str, ...]
    speech_end_ns: int
    audible_ns: int
    voice_to_voice_ms: float
    contributions_ms: dict[str, float]
    """Consecutive intervals, in order, from the talker's end to the first audible sample."""
    marks: tuple[str, ...] = ()
    """Why this turn is not a plain one: ``asr_restarted``, ``apology``, ``text``."""
    overlaps: tuple[Overlap, ...] = ()
    """Who spoke over the answer."""
    end_of_turn_probability: float | None = None
    """What the sound of the last word said about the turn's end."""
    talker_end_ns: int = 0
    """Where `contributions_ms` begin; at `speech_end_ns` if it is 0."""

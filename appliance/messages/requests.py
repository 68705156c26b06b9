"""Requests of the command line and the panel, and their answers (ROUTER/DEALER, not published)."""

from __future__ import annotations

from typing import Literal

import msgspec

from appliance.messages.base import Message
from appliance.messages.conversation import FloorState
from appliance.messages.rings import Span
from appliance.processes import LOCAL_SESSION


class AskText(Message, frozen=True, kw_only=True, tag=True):
    """To the conductor: a question as text."""

    text: str
    session_id: str = LOCAL_SESSION


class SayText(Message, frozen=True, kw_only=True, tag=True):
    """To the conductor: say this."""

    text: str
    session_id: str = LOCAL_SESSION


class Accepted(Message, frozen=True, kw_only=True, tag=True):
    """The answer when a request is taken; the conductor's names the turn that this became."""

    turn_id: str = ""


class Refused(Message, frozen=True, kw_only=True, tag=True):
    """The answer when a request can't be taken now."""

    reason: str


class InjectAudio(Message, frozen=True, kw_only=True, tag=True):
    """To capture: float32 samples at 16 kHz to be heard in place of the microphone, in order."""

    samples: bytes
    last: bool = False


class InjectProgress(Message, frozen=True, kw_only=True, tag=True):
    """Capture's answer: how many samples have gone into the ring (credit to send more)."""

    consumed: int
    finished: bool
    span: Span | None = None
    """The blocks that carry the injected audio so far."""


class SetFrontEndBypass(Message, frozen=True, kw_only=True, tag=True):
    """To capture: switch exactly these stages of the front-end off; an empty set is the normal."""

    stages: tuple[str, ...]


class SetMute(Message, frozen=True, kw_only=True, tag=True):
    """To capture: mute the microphones or not; kept across restarts."""

    muted: bool


class Attend(Message, frozen=True, kw_only=True, tag=True):
    """To the conductor: what is said from now on is meant for the appliance, as after its name."""

    for_ms: int


class GetFloor(Message, frozen=True, kw_only=True, tag=True):
    """To the conductor: who has the floor of the local session? For who came after the last
    `Floor`. Answered by `FloorIs`."""


class FloorIs(Message, frozen=True, kw_only=True, tag=True):
    """Who has the floor at present."""

    state: FloorState


class TimerItem(msgspec.Struct, frozen=True, kw_only=True):
    """A timer or an alarm, for the panel."""

    id: str
    kind: Literal["timer", "alarm"]
    name: str
    remaining_s: float
    """Until it rings; 0 or less: it rings."""
    at: str
    """Alarms: time of day and the days, as it is spoken; timers: how long they were set for."""


class FactItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was to be remembered, for the panel."""

    id: str
    text: str
    owner: str
    told_wall_ms: int


class ListMind(Message, frozen=True, kw_only=True, tag=True):
    """To mind: tell what you keep. Answered by `MindIs`."""


class MindIs(Message, frozen=True, kw_only=True, tag=True):
    """What mind keeps at present."""

    timers: tuple[TimerItem, ...]
    facts: tuple[FactItem, ...]
    memory: bool
    """Whether anything may be remembered."""
    encrypted: bool
    cache_entries: int
    cache_bytes: int
    cache_hit_rate: float


class CancelTimer(Message, frozen=True, kw_only=True, tag=True):
    """To mind: end a timer or alarm, ringing or not. Answered by `Accepted` or `Refused`."""

    id: str


class ForgetFacts(Message, frozen=True, kw_only=True, tag=True):
    """To mind: delete these facts for good; none named: all of them, and what was cached."""

    ids: tuple[str, ...] = ()


class ExportMind(Message, frozen=True, kw_only=True, tag=True):
    """To mind: everything that is stored about people. Answered by `MindExport`."""


class MindExport(Message, frozen=True, kw_only=True, tag=True):
    """The export, as JSON."""

    json: str


class OfferVoice(Message, frozen=True, kw_only=True, tag=True):
    """To gateway: a browser wants to talk. Answered by `VoiceAnswer` or `Refused`."""

    key: str
    """Whose browser it is, made by the panel; an offer takes the place of an earlier one."""
    sdp: str
    address: str
    """Of this machine, by which the browser came."""


class VoiceAnswer(Message, frozen=True, kw_only=True, tag=True):
    """Gateway's answer: the session that it becomes, and how to reach it."""

    session_id: str = ""
    sdp: str = ""
    refusal: Literal["", "full"] = ""
    """``full``: all sessions are taken."""


class AddCandidate(Message, frozen=True, kw_only=True, tag=True):
    """To gateway: another address at which the browser of this key may be reached."""

    key: str
    candidate: str
    mid: str


class CloseVoice(Message, frozen=True, kw_only=True, tag=True):
    """To gateway: the browser of this key has gone."""

    key: str


Request = (
    AskText
    | SayText
    | Accepted
    | Refused
    | InjectAudio
    | InjectProgress
    | SetFrontEndBypass
    | SetMute
    | Attend
    | GetFloor
    | FloorIs
    | ListMind
    | MindIs
    | CancelTimer
    | ForgetFacts
    | ExportMind
    | MindExport
    | OfferVoice
    | VoiceAnswer
    | AddCandidate
    | CloseVoice
)

"""The one table of messages: every message on the bus, its topic, its one publisher, its rate.

A message is a frozen struct, sent as one ZeroMQ frame ``topic NUL version msgpack`` and validated
against its schema when it arrives. Times are CLOCK_MONOTONIC nanoseconds (``_ns``), comparable
between the processes of one machine. After openpilot's ``cereal/services.py`` and
livekit-agents' ``ipc/proto.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from appliance.processes import HEARTBEAT_INTERVAL_MS, PROCESSES, RING_WRITERS
from appliance.processes import LOCAL_SESSION as LOCAL_SESSION  # noqa: PLC0414 (exported)

SCHEMA_VERSION = 3


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all messages."""

    topic: ClassVar[str] = ""


# --- audio rings -------------------------------------------------------------------------------


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Names audio: blocks ``first`` to ``last`` (both included) of one life of a ring's writer."""

    epoch: int
    first: int
    last: int


class BlocksReady(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Blocks up to ``sequence`` of ``epoch`` can be read. Cumulative: a lost one loses nothing."""

    ring: str
    epoch: int
    sequence: int
    direction_deg: float | None = None
    """Mic ring: where the sound of the newest blocks came from, when that is known."""
    far_end_active: bool = False
    """Mic ring: whether the loudspeaker was playing meanwhile, or its echo still lasted."""
    aside: bool = False
    """Mic ring: whether only others than the partner (`Company`) were heard."""


# --- process life ------------------------------------------------------------------------------

ProcessState = Literal["starting", "standby", "ready", "degraded"]


class Heartbeat(Message, frozen=True, kw_only=True):
    """Sent by a process's own loop, so a loop that hangs falls silent."""

    process: str
    instance: int
    life: int
    """Monotonic nanoseconds of the process's start: another value means another life."""
    pid: int
    state: ProcessState
    detail: str = ""
    """What is wrong, or what it is doing: one line for a person."""
    restarts: int = 0
    busy_ms: int = 0
    """How long the job in hand has been running; 0 when there is none."""
    rings: dict[str, int] = {}
    """Epoch of each ring this instance writes: readers may map it before they need it."""
    counters: dict[str, float] = {}
    """Losses, overruns, levels and the like, with units in their names."""


# --- sessions ----------------------------------------------------------------------------------


class OpenSession(msgspec.Struct, frozen=True, array_like=True):
    """Somebody speaks from afar, through the rings of this session's slot."""

    session_id: str
    opened_ns: int
    """Another value means somebody else: nothing of who was there before is kept."""


class Sessions(Message, frozen=True, kw_only=True):
    """The remote sessions that are open; sent on every change and once a second, so that a
    process that was restarted knows them. The local session is always open and never listed."""

    topic: ClassVar[str] = "gateway.sessions"
    open: tuple[OpenSession, ...] = ()


# --- speech ------------------------------------------------------------------------------------


class SpeechEvent(Message, frozen=True, kw_only=True):
    """Base of what the vad process says about one stretch of speech."""

    session_id: str
    utterance_id: str
    spans: tuple[Span, ...]
    """The audio so far, pre-roll included; more than one when capture was restarted inside it."""
    speech_start_ns: int
    direction_deg: float | None = None
    """Where it comes from, counterclockwise in the array's plane; None when that is not known."""


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
    decided_ns: int
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


class WakeWord(Message, frozen=True, kw_only=True):
    """The appliance was called by its name."""

    topic: ClassVar[str] = "speech.wake_word"
    session_id: str
    name: str
    end_ns: int
    """When the word ended."""
    probability: float


class MuteState(Message, frozen=True, kw_only=True):
    """Whether the microphones are muted; sent on change and once a second."""

    topic: ClassVar[str] = "capture.mute"
    session_id: str
    hardware: bool
    """By a switch: no software can undo that."""
    software: bool
    """By request, kept across restarts."""


class AudioGap(Message, frozen=True, kw_only=True):
    """Audio that nobody will ever hear, and how much: a restart or a lost device."""

    topic: ClassVar[str] = "capture.gap"
    session_id: str
    lost_ms: float
    reason: str


class ChannelMetrics(msgspec.Struct, frozen=True):
    """One microphone in the last second."""

    level_dbfs: float
    health: str
    """``ok``, or why the front-end leaves it out."""


class FrontEndReport(Message, frozen=True, kw_only=True):
    """What the audio front-end did in the last second. Levels and quantities only, no audio."""

    topic: ClassVar[str] = "capture.metrics"
    session_id: str
    at_ns: int
    far_end_active: bool
    erle_linear_db: float | None
    """Echo return loss enhancement of the linear canceller; None without far-end."""
    erle_final_db: float | None
    """The same with the residual suppressor."""
    delay_ms: float | None
    """Echo behind reference, as aligned; None while it is looked for."""
    drift_ppm: float | None
    """How much faster the loudspeaker's clock runs than the microphone's."""
    near_end_dbfs: float
    """Level of what goes into the mic ring."""
    far_end_dbfs: float
    """Level of what was played."""
    clipped_share: float
    """Share of microphone samples at full scale."""
    direction_deg: float | None
    beam: str
    """What the beam does: its name, or empty without one."""
    gain_db: float
    """Automatic gain."""
    block_p50_ms: float
    block_p99_ms: float
    """Processing time of a block."""
    xruns: int
    """Times since the start that microphone audio was lost or dropped."""
    faults: dict[str, int]
    """What went wrong and was repaired since the start, by name."""
    channels: tuple[ChannelMetrics, ...]
    bypassed: tuple[str, ...] = ()
    """Stages that are switched off."""


# --- the stages of an answer -------------------------------------------------------------------


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


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn of a conversation as a chat model sees it."""

    role: Literal["system", "user", "assistant"]
    text: str


class Consider(Message, frozen=True, kw_only=True):
    """Asks mind what is to become of a question. Nothing is done before its `Commit`."""

    topic: ClassVar[str] = "conductor.consider"
    session_id: str
    request_id: str
    text: str
    in_dialogue: bool = False
    """Whether llm would be told earlier turns."""
    turn_id: str = ""
    """Questions of one turn take each other's place."""


class Considered(Message, frozen=True, kw_only=True):
    """What mind knows of a question, within some milliseconds."""

    topic: ClassVar[str] = "mind.considered"
    session_id: str
    request_id: str
    reply: str = ""
    """The answer, when llm is not needed for it."""
    acts: bool = False
    """Something is done when the turn is over: `reply` is what will be said if that works."""
    question: str = ""
    """For llm: the question, completed from what was talked about."""
    facts: str = ""
    """For llm: what it shall know for this question only, quoted data."""
    grammar: str = ""
    """For llm: GBNF of the calls it may answer with instead of text; empty: none."""
    intent: str = ""
    """What it was taken for: an intent's name or ``cache``; empty: a question for llm."""
    confidence: float = 0.0
    language: str = "en"
    received_ns: int = 0
    finished_ns: int = 0


class Commit(Message, frozen=True, kw_only=True):
    """Tells mind that the turn is over: what was considered is meant, and to be done."""

    topic: ClassVar[str] = "conductor.commit"
    session_id: str
    request_id: str
    call: str = ""
    """What llm answered under `Considered.grammar` instead of text: JSON."""
    turn_id: str = ""
    """What was done already in the same turn is not meant any more: the user went on."""


class Done(Message, frozen=True, kw_only=True):
    """What became of it, as it is to be said."""

    topic: ClassVar[str] = "mind.done"
    session_id: str
    request_id: str
    reply: str


class SpeechSettings(Message, frozen=True, kw_only=True):
    """How loud and how fast the user wants answers to be; sent on change and once a second."""

    topic: ClassVar[str] = "mind.speech"
    session_id: str
    volume_percent: int = 100
    """0 to 100, of the configured level."""
    speed: float = 1.0
    """0.5 to 2; 1 is the voice's own."""


class Ringing(Message, frozen=True, kw_only=True):
    """The timers and alarms that ring and were not silenced; sent on change, and once a second
    while something rings."""

    topic: ClassVar[str] = "mind.ringing"
    session_id: str
    ids: tuple[str, ...]
    """Empty: nothing rings any more."""
    text: str
    """What to say of them."""


class Generate(Message, frozen=True, kw_only=True):
    """Asks llm for an answer. Carries the whole conversation: a restarted llm has lost nothing."""

    topic: ClassVar[str] = "llm.generate"
    session_id: str
    request_id: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    grammar: str = ""
    """GBNF that the answer must follow: text, or a tool's call as JSON."""
    spoken: bool = True
    """Whether somebody is answered; else it is a note for the conversation's own use."""


class Prepare(Message, frozen=True, kw_only=True):
    """Tells llm what the next question will follow, so that only the question is left to read."""

    topic: ClassVar[str] = "llm.prepare"
    session_id: str
    messages: tuple[ChatMessage, ...]
    question: str = ""
    """The question as far as it was heard."""
    whole: bool = False
    """It may be complete: all is read that comes before an answer's first word."""


class QuestionRead(Message, frozen=True, kw_only=True):
    """What llm thinks of a question: known long before it has written the answer's first words."""

    topic: ClassVar[str] = "llm.question"
    session_id: str
    request_id: str
    complete: float
    """As `ReplyChunk.question_complete`."""


class ReplyChunk(Message, frozen=True, kw_only=True):
    """A clause or sentence of the answer, in order, while the rest is still being written."""

    topic: ClassVar[str] = "llm.reply"
    session_id: str
    request_id: str
    index: int
    text: str
    last: bool
    received_ns: int
    """When the request arrived at llm."""
    started_ns: int = 0
    """When llm took it up: until then it had others to answer."""
    first_token_ns: int
    finished_ns: int
    """When this chunk was complete."""
    prompt_tokens: int
    cached_tokens: int
    question_complete: float | None = None
    """Probability that the question is a whole sentence, by its words."""
    call: str = ""
    """Instead of text: the tool's call that llm wrote, as JSON."""
    error: str = ""


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


class Cancel(Message, frozen=True, kw_only=True):
    """Drops a request (asr, llm) or an utterance (tts): whatever carries this id; ``*``: all of the
    session's."""

    topic: ClassVar[str] = "conductor.cancel"
    session_id: str
    id: str


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


# --- the conductor -----------------------------------------------------------------------------

FloorState = Literal["idle", "listening", "thinking", "speaking"]


class Floor(Message, frozen=True, kw_only=True):
    """Who has the floor in a session; sent on every change."""

    topic: ClassVar[str] = "conductor.floor"
    session_id: str
    state: FloorState
    turn_id: str
    since_ns: int


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


# --- requests of the command line and the panel (ROUTER/DEALER, not published) -------------------


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


# --- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """One row: a topic, its message, who alone publishes it and, if periodic, how often."""

    topic: str
    message: type[Message]
    publisher: str
    rate_hz: float | None = None


def _event(publisher: str, *messages: type[Message]) -> list[TopicSpec]:
    return [TopicSpec(topic=m.topic, message=m, publisher=publisher) for m in messages]


def heartbeat_topic(process: str) -> str:
    """Topic of a process's heartbeat."""
    return f"heartbeat.{process}"


def ring_topic(ring: str) -> str:
    """Topic of a ring's announcements."""
    return f"ring.{ring}"


ANNOUNCEMENT_RATE_HZ = 50.0
"""Two blocks of 10 ms at a time."""

TOPICS: dict[str, TopicSpec] = {
    spec.topic: spec
    for spec in [
        *(
            TopicSpec(
                topic=ring_topic(ring),
                message=BlocksReady,
                publisher=writer,
                # a speaker ring carries blocks only while something is played, a remote session's
                # mic ring only while it is open
                rate_hz=ANNOUNCEMENT_RATE_HZ if ring == "mic" else None,
            )
            for ring, writer in RING_WRITERS.items()
        ),
        *(
            TopicSpec(
                topic=heartbeat_topic(name),
                message=Heartbeat,
                publisher=name,
                rate_hz=1000.0 / HEARTBEAT_INTERVAL_MS,
            )
            for name in PROCESSES
        ),
        *_event("capture", AudioGap),
        TopicSpec(
            topic=FrontEndReport.topic,
            message=FrontEndReport,
            publisher="capture",
            rate_hz=1.0,
        ),
        TopicSpec(topic=MuteState.topic, message=MuteState, publisher="capture", rate_hz=1.0),
        TopicSpec(topic=Sessions.topic, message=Sessions, publisher="gateway", rate_hz=1.0),
        *_event(
            "vad",
            SpeechStarted,
            SpeechContinued,
            SpeechPaused,
            SpeechResumed,
            SpeechEnded,
            EndOfTurn,
            SpeechScores,
            NearEnd,
            SpeechAside,
            WakeWord,
        ),
        *_event("asr", Transcript, PartialTranscript),
        *_event("llm", QuestionRead, ReplyChunk),
        *_event("mind", Considered, Done, Ringing),
        TopicSpec(
            topic=SpeechSettings.topic, message=SpeechSettings, publisher="mind", rate_hz=1.0
        ),
        *_event("tts", PlaybackStarted, PlaybackDucked, PiecePlayed, PlaybackEnded),
        *_event("conductor", Transcribe, Prepare, Generate, Speak, Release, Pause, Restore, Cancel),
        *_event("conductor", Consider, Commit),
        *_event("conductor", Floor, Company, DialogueWords, ServiceLevel, TurnRecord),
    ]
}

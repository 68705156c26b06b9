"""The conductor process: one turn state machine per session, requests, the checkpoint."""

from __future__ import annotations

import logging
import time

from appliance.conductor.checkpoint import Checkpoint, CheckpointFile
from appliance.conductor.optimiser import Ladder, Optimiser
from appliance.conductor.turn import TurnSettings
from appliance.conductor.turns import SERVANTS, TurnTaker
from appliance.config import Config
from appliance.ipc.bus import Bus
from appliance.llm.prompt import opening
from appliance.messages import (
    LOCAL_SESSION,
    Accepted,
    AskText,
    Attend,
    EndOfTurn,
    Floor,
    Message,
    MuteState,
    NearEnd,
    PartialTranscript,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Refused,
    ReplyChunk,
    Request,
    SayText,
    SpeechContinued,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcribe,
    Transcript,
    TurnRecord,
    WakeWord,
    heartbeat_topic,
)

logger = logging.getLogger(__name__)

TOPICS = (
    *(
        message.topic
        for message in (
            SpeechStarted,
            SpeechContinued,
            SpeechPaused,
            SpeechResumed,
            SpeechEnded,
            EndOfTurn,
            NearEnd,
            WakeWord,
            MuteState,
            Transcript,
            PartialTranscript,
            ReplyChunk,
            PlaybackStarted,
            PlaybackDucked,
            PiecePlayed,
            PlaybackEnded,
        )
    ),
    *(heartbeat_topic(name) for name in SERVANTS),
)
TICK_MS = 250
ASR_LADDER = ("whisper-base", "whisper-tiny.en")
LLM_LADDER = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m")
"""From the best to the fastest."""
LONGEST_TEXT = 4_000
"""Characters of a request: some minutes of speech, and more than llm can read."""
LISTENING_GRACE_MS = 300


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    conductor = _Conductor(config, bus)
    bus.ready()
    while bus.running:
        conductor.step()
    conductor.close()


class _Conductor:
    def __init__(self, config: Config, bus: Bus) -> None:
        self._bus = bus
        self._words = config.logging.words
        self._taker = TurnTaker(LOCAL_SESSION, turn_settings(config), life=bus.life)
        self._optimiser: Optimiser | None = None
        if config.conductor.optimise:
            self._optimiser = Optimiser(ladder(config), LOCAL_SESSION)
        self._checkpoint = CheckpointFile(bus.runtime_dir)
        self._owed = self._checkpoint.take()
        """The turn that a predecessor left unanswered."""
        # One that was still being listened to goes on by itself, unless vad told of its end while
        # nobody listened.
        self._recover_at_ns = time.monotonic_ns()
        if self._owed and self._owed.state == "listening":
            self._recover_at_ns += (config.vad.fallback_ms + LISTENING_GRACE_MS) * 1_000_000

    def step(self) -> None:
        message = self._bus.receive(_until_due_ms(self._taker.due_ns()))
        now_ns = time.monotonic_ns()
        if message is not None:
            self._publish(self._taker.step(message, now_ns))
        self._publish(self._taker.tick(now_ns))
        if self._owed:
            self._take_up(self._owed, now_ns)
        for client, request in self._bus.requests():
            self._take_request(client, request, now_ns)

    def close(self) -> None:
        """Nothing is owed any more."""
        self._checkpoint.save("idle", ())

    def _publish(self, messages: list[Message]) -> None:
        if any(isinstance(message, Floor | Transcribe) for message in messages):
            # first: we may die while publishing
            self._checkpoint.save(self._taker.state, self._taker.open_spans())
        for message in messages:
            self._bus.publish(message)
            if isinstance(message, TurnRecord):
                _log(message, words=self._words)
                self._optimise(message)

    def _optimise(self, record: TurnRecord) -> None:
        if self._optimiser is None:
            return
        level = self._optimiser.step(record, time.monotonic_ns())
        if level:
            logger.info("level %d: %s", level.level, level.reason)
            self._taker.use_history(level.history_turns)
            self._bus.publish(level)
        self._taker.expects_slow_answer = self._optimiser.slow

    def _take_up(self, owed: Checkpoint, now_ns: int) -> None:
        if self._taker.state != "idle":
            self._owed = None
        elif now_ns >= self._recover_at_ns:
            logger.warning("taking up the turn that my predecessor left unanswered")
            self._publish(self._taker.recover(owed.spans, now_ns))
            self._owed = None

    def _take_request(self, client: bytes, request: Request, now_ns: int) -> None:
        messages: list[Message] = []
        match request:
            case AskText(text=text) | SayText(text=text) if len(text) > LONGEST_TEXT:
                reason = f"{len(text)} characters are too many; {LONGEST_TEXT} at a time"
                answer: Request = Refused(reason=reason)
            case AskText(text=text):
                turn_id, messages = self._taker.ask(text, now_ns)
                answer = self._taken(turn_id)
            case SayText(text=text):
                turn_id, messages = self._taker.say(text, now_ns)
                answer = self._taken(turn_id)
            case Attend(for_ms=for_ms):
                self._taker.attend(for_ms, now_ns)
                answer = Accepted()
            case _:
                answer = Refused(reason="the conductor does not take this request")
        self._bus.reply(client, answer)
        self._publish(messages)

    def _taken(self, turn_id: str) -> Request:
        if turn_id:
            return Accepted(turn_id=turn_id)
        return Refused(reason=f"busy {self._taker.state}; try again in a moment")


def turn_settings(config: Config) -> TurnSettings:
    """What the state machine needs to know of the configuration."""
    conductor = config.conductor
    return TurnSettings(
        asr_timeout_ms=conductor.asr_timeout_ms,
        llm_timeout_ms=conductor.llm_timeout_ms,
        tts_timeout_ms=conductor.tts_timeout_ms,
        preroll_ms=config.vad.preroll_ms,
        history_turns=conductor.history_turns,
        think_ahead=conductor.think_ahead,
        max_tokens=config.llm.max_tokens,
        opening=opening(config.llm.system_prompt, config.llm.model),
        fallback_ms=config.vad.fallback_ms,
        end_of_turn_ms=conductor.end_of_turn_ms,
        end_of_turn_probability=conductor.end_of_turn_probability,
        barge_in=conductor.barge_in,
        wake_word=conductor.attention == "wake-word",
        follow_up_ms=conductor.follow_up_ms,
        acknowledge=conductor.acknowledge,
    )


def ladder(config: Config) -> Ladder:
    """The models that are here, from the configured ones down to the fastest."""

    def present(configured: str, cheaper: tuple[str, ...]) -> tuple[str, ...]:
        below = cheaper[cheaper.index(configured) + 1 :] if configured in cheaper else ()
        return (configured, *(name for name in below if (config.models_path / name).is_dir()))

    turns = config.conductor.history_turns
    return Ladder(
        asr_models=present(config.asr.model, ASR_LADDER if config.asr.language == "en" else ()),
        llm_models=present(config.llm.model, LLM_LADDER),
        history_turns=tuple(dict.fromkeys((turns, turns // 2, min(turns, 1)))),
    )


def _until_due_ms(due_ns: int | None) -> int:
    """How long the state machine may sleep."""
    if due_ns is None:
        return TICK_MS
    return max(1, min(TICK_MS, -(-(due_ns - time.monotonic_ns()) // 1_000_000)))


def _log(record: TurnRecord, *, words: bool) -> None:
    parts = ", ".join(f"{name} {ms:.0f}" for name, ms in record.contributions_ms.items())
    logger.info(
        "turn %s %s: voice to voice %.0f ms (%s)%s",
        record.turn_id,
        record.outcome,
        record.voice_to_voice_ms,
        parts,
        f" [{', '.join(record.marks)}]" if record.marks else "",
    )
    if words:
        logger.info("turn %s: %r -> %r", record.turn_id, record.transcript, record.reply)

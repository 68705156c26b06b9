"""The conductor process: one turn state machine per session, requests, the checkpoint."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from appliance.conductor.optimiser import Ladder, Optimiser
from appliance.conductor.turn import TurnSettings
from appliance.conductor.turns import SERVANTS, TurnTaker
from appliance.config import Config
from appliance.ipc.bus import Bus
from appliance.llm.prompt import DEFAULT_SYSTEM_PROMPT
from appliance.messages import (
    LOCAL_SESSION,
    Accepted,
    AskText,
    Attend,
    EndOfTurn,
    Floor,
    FloorState,
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
    SayText,
    Span,
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
CHECKPOINT_MAX_AGE_NS = 10_000_000_000


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
        return checkpoint if 0 <= age_ns < CHECKPOINT_MAX_AGE_NS else None


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    taker = TurnTaker(LOCAL_SESSION, turn_settings(config), life=bus.life)
    optimiser = Optimiser(ladder(config), LOCAL_SESSION) if config.conductor.optimise else None
    checkpoint = CheckpointFile(bus.runtime_dir)

    def optimise(record: TurnRecord) -> None:
        level = optimiser.step(record, time.monotonic_ns()) if optimiser else None
        if optimiser and level:
            logger.info("level %d: %s", level.level, level.reason)
            taker.use_history(level.history_turns)
            bus.publish(level)
        taker.expects_slow_answer = optimiser is not None and optimiser.slow

    def publish(messages: list[Message]) -> None:
        if any(isinstance(message, Floor | Transcribe) for message in messages):
            checkpoint.save(taker.state, taker.open_spans())  # first: we may die while publishing
        for message in messages:
            bus.publish(message)
            if isinstance(message, TurnRecord):
                _log(message, words=config.logging.words)
                optimise(message)

    bus.ready()
    owed = checkpoint.take()
    # A turn that was still being listened to goes on by itself, unless vad told of its end while
    # nobody listened.
    recover_at_ns = time.monotonic_ns()
    if owed and owed.state == "listening":
        recover_at_ns += (config.vad.fallback_ms + LISTENING_GRACE_MS) * 1_000_000
    while bus.running:
        message = bus.receive(_until_due_ms(taker.due_ns()))
        now_ns = time.monotonic_ns()
        if message is not None:
            publish(taker.step(message, now_ns))
        publish(taker.tick(now_ns))
        if owed and taker.state != "idle":
            owed = None
        elif owed and now_ns >= recover_at_ns:
            logger.warning("taking up the turn that my predecessor left unanswered")
            publish(taker.recover(owed.spans, now_ns))
            owed = None
        for client, request in bus.requests():
            match request:
                case AskText(text=text) | SayText(text=text) if len(text) > LONGEST_TEXT:
                    reason = f"{len(text)} characters are too many; {LONGEST_TEXT} at a time"
                    bus.reply(client, Refused(reason=reason))
                    continue
                case AskText(text=text):
                    turn_id, messages = taker.ask(text, now_ns)
                case SayText(text=text):
                    turn_id, messages = taker.say(text, now_ns)
                case Attend(for_ms=for_ms):
                    taker.attend(for_ms, now_ns)
                    bus.reply(client, Accepted())
                    continue
                case _:
                    bus.reply(client, Refused(reason="the conductor does not take this request"))
                    continue
            bus.reply(
                client,
                Accepted(turn_id=turn_id)
                if turn_id
                else Refused(reason=f"busy {taker.state}; try again in a moment"),
            )
            publish(messages)
    checkpoint.save("idle", ())


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
        system_prompt=config.llm.system_prompt or DEFAULT_SYSTEM_PROMPT,
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

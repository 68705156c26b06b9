"""The conductor process: one turn state machine per session, requests, the checkpoint."""

from __future__ import annotations

import logging
import time

import psutil

from appliance.conductor.checkpoint import CheckpointFile
from appliance.conductor.conversations import Conversations
from appliance.conductor.governor import Governor
from appliance.conductor.optimiser import Ladder, Optimiser
from appliance.conductor.turn import TurnSettings
from appliance.conductor.turns import SERVANTS
from appliance.config import Config
from appliance.health import temperatures_c
from appliance.ipc.bus import Bus
from appliance.llm.ladder import LLM_LADDER
from appliance.llm.prompt import opening
from appliance.messages import (
    LOCAL_SESSION,
    Accepted,
    AskText,
    Attend,
    Considered,
    Done,
    EndOfTurn,
    Floor,
    FloorIs,
    GetFloor,
    Message,
    MuteState,
    NearEnd,
    PartialTranscript,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    QuestionRead,
    Refused,
    ReplyChunk,
    Request,
    Ringing,
    SayText,
    ServiceLevel,
    Sessions,
    SpeechAside,
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
            SpeechAside,
            WakeWord,
            MuteState,
            Transcript,
            PartialTranscript,
            QuestionRead,
            ReplyChunk,
            Considered,
            Done,
            Ringing,
            PlaybackStarted,
            PlaybackDucked,
            PiecePlayed,
            PlaybackEnded,
            Sessions,
        )
    ),
    *(heartbeat_topic(name) for name in SERVANTS),
)
TICK_MS = 250
LOOK_MS = 10_000
"""Between two looks at the machine's memory and temperature."""
ASR_LADDER = ("whisper-base", "whisper-tiny.en")
"""From the best to the fastest."""
LONGEST_TEXT = 4_000
"""Characters of a request: some minutes of speech, and more than llm can read."""


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
        self._checkpoint = CheckpointFile(bus.runtime_dir)
        owed = self._checkpoint.take()
        if owed:
            logger.warning("my predecessor left %d turn(s) unanswered", len(owed))
        self._conversations = Conversations(
            turn_settings(config), life=bus.life, owed=owed, now_ns=time.monotonic_ns()
        )
        self._governor, self._look_ns = Governor(), 0
        self._optimiser: Optimiser | None = None
        if config.conductor.optimise:
            self._optimiser = Optimiser(ladder(config), LOCAL_SESSION)

    def step(self) -> None:
        message = self._bus.receive(_until_due_ms(self._conversations.due_ns()))
        now_ns = time.monotonic_ns()
        if message is not None:
            self._publish(self._conversations.step(message, now_ns))
        self._publish(self._conversations.tick(now_ns))
        for client, request in self._bus.requests():
            self._take_request(client, request, now_ns)
        if now_ns >= self._look_ns and self._conversations.local.state == "idle":
            self._look_ns = now_ns + LOOK_MS * 1_000_000
            self._spare_machine(now_ns)

    def _spare_machine(self, now_ns: int) -> None:
        if self._optimiser is None:
            return
        available_mb = psutil.virtual_memory().available / 1e6
        hottest_c = max(temperatures_c().values(), default=None)
        advice = self._governor.step(available_mb, hottest_c, now_ns)
        if advice is not None:
            self._change_level(self._optimiser.spare(advice, now_ns))

    def _change_level(self, level: ServiceLevel | None) -> None:
        if level is not None:
            logger.info("level %d: %s", level.level, level.reason)
            self._conversations.use_history(level.history_turns)
            self._bus.publish(level)

    def close(self) -> None:
        """Nothing is owed any more."""
        self._checkpoint.save(())

    def _publish(self, messages: list[Message]) -> None:
        if any(isinstance(message, Floor | Transcribe) for message in messages):
            # first: we may die while publishing
            self._checkpoint.save(self._conversations.checkpoints(time.monotonic_ns()))
        for message in messages:
            self._bus.publish(message)
            if isinstance(message, TurnRecord):
                _log(message, words=self._words)
                self._optimise(message)

    def _optimise(self, record: TurnRecord) -> None:
        if self._optimiser is None:
            return
        self._change_level(self._optimiser.step(record, time.monotonic_ns()))
        self._conversations.expect_slow_answers(self._optimiser.slow)

    def _take_request(self, client: bytes, request: Request, now_ns: int) -> None:
        messages: list[Message] = []
        match request:
            case AskText() | SayText():
                answer, messages = self._take_text(request, now_ns)
            case Attend(for_ms=for_ms):
                self._conversations.local.attend(for_ms, now_ns)
                answer = Accepted()
            case GetFloor():
                answer = FloorIs(state=self._conversations.local.state)
            case _:
                answer = Refused(reason="the conductor does not take this request")
        self._bus.reply(client, answer)
        self._publish(messages)

    def _take_text(self, request: AskText | SayText, now_ns: int) -> tuple[Request, list[Message]]:
        text, taker = request.text, self._conversations.taker(request.session_id)
        if len(text) > LONGEST_TEXT:
            reason = f"{len(text)} characters are too many; {LONGEST_TEXT} at a time"
            return Refused(reason=reason), []
        if taker is None:
            return Refused(reason=f"there is no session {request.session_id[:40]!r}"), []
        action = taker.ask if isinstance(request, AskText) else taker.say
        turn_id, messages = action(text, now_ns)
        if turn_id:
            return Accepted(turn_id=turn_id), messages
        return Refused(reason=f"busy {taker.state}; try again in a moment"), messages


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
        opening=opening(config.llm.system_prompt, config.llm.model, config.asr.language),
        language=config.asr.language,
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

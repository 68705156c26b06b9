"""The llm process: a conversation in, speakable chunks of its answer out, as they are written.

It is there whatever becomes of its model: a smaller one answers, or every question gets an error at
once, until the model can be loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.config import Config
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.llm.answer import Answer
from appliance.llm.engine import GenerationStats, LlmEngine
from appliance.llm.loading import Loaded, Retry, candidates, load_engine, load_first
from appliance.llm.prompt import before_question, begins_with, opening
from appliance.messages import (
    LOCAL_SESSION,
    Cancel,
    ChatMessage,
    Generate,
    Prepare,
    QuestionRead,
    ReplyChunk,
    ServiceLevel,
    Sessions,
)
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import SpeechStream

__all__ = ["TOPICS", "load_engine", "main"]

logger = logging.getLogger(__name__)

TOPICS = (Prepare.topic, Generate.topic, Cancel.topic, ServiceLevel.topic, Sessions.topic)

_PREPARE = "prepare"
_LOAD = "load"
_FORGET = "forget"
_LOAD_BOUND_MS = 60_000
_PHRASE_WORDS = 3
"""An answer's first phrase may be spoken from so many words on: while they are heard the next ones
are written."""


@dataclass(frozen=True)
class _Tried:
    """From the worker: what answers from now on, and what is wrong with that."""

    model: str
    problem: str


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    service = _Service(
        bus, config, load_first(config, candidates(config.llm.model, config.models_path))
    )
    while bus.running:
        service.step()


class _Service:
    def __init__(self, bus: Bus, config: Config, loaded: Loaded) -> None:
        self._bus = bus
        self._config = config
        self._engine: LlmEngine | None = loaded.engine
        self._wanted = config.llm.model
        self._model = loaded.model
        """That answers; empty when none does."""
        self._problem = ""
        self._retry: Retry | None = None
        self._opening = opening(config.llm.system_prompt, config.llm.model, config.asr.language)
        self._first_clause_words = 0
        self._remote: dict[str, int] = {}
        """The remote sessions, and when each was opened."""
        self._reading: tuple[ChatMessage, ...] = ()
        """What is read ahead at present, or was last."""
        self._to_read: Prepare | None = None
        """What is to be read ahead next."""
        self._worker = Worker("generate")
        self._bound_ms = config.conductor.llm_timeout_ms
        bus.wake_on(self._worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung
        self._tell(_Tried(loaded.model, loaded.problem))

    def step(self) -> None:
        match self._bus.receive():
            case Generate() as request:
                self._take(request)
            case Prepare() as request:
                self._prepare(request)
            case ServiceLevel() as level:
                self._first_clause_words = level.first_clause_words
                if level.llm_model != self._wanted:
                    self._wanted = level.llm_model
                    self._load()
            case Sessions(open=remote):
                self._follow({session.session_id: session.opened_ns for session in remote})
            case Cancel(session_id=session_id, id="*"):
                self._worker.cancel_all(session_id)
            case Cancel(id=request_id):
                self._worker.cancel(request_id)
        for message in self._worker.messages():
            match message:
                case ReplyChunk() | QuestionRead():
                    self._bus.publish(message)
                case _Tried():
                    self._tell(message)
        if self._to_read and self._worker.idle:
            self._read(self._to_read)
        if self._retry and self._worker.idle and self._retry.due(time.monotonic_ns()):
            self._load()

    # --- the model -------------------------------------------------------------------------

    def _load(self) -> None:
        """Load the model that is wanted once the work in hand is done; what there is stays if that
        fails."""
        wanted = self._wanted
        self._retry = None

        def load(emit: Emit, _cancelled: Cancelled) -> None:
            if wanted == self._model:
                emit(_Tried(self._model, ""))
                return
            names = candidates(wanted, self._config.models_path, self._model)
            loaded = load_first(self._config, names)
            problem = loaded.problem
            if loaded.engine:
                if self._engine:
                    self._engine.close()
                self._engine, self._model = loaded.engine, loaded.model
            elif self._engine:
                problem = f"{self._model} answers instead: {problem}"
            emit(_Tried(self._model, problem))

        self._worker.submit(
            _LOAD,
            load,
            bound_ms=_LOAD_BOUND_MS,
            on_error=lambda text: _Tried(self._model, text),
        )

    def _tell(self, tried: _Tried) -> None:
        if tried.problem:
            self._retry = Retry(self._config.models_path, self._wanted, time.monotonic_ns())
            if tried.problem != self._problem:
                logger.error("%s", tried.problem)
        self._problem = tried.problem
        state, detail = ("degraded", tried.problem) if tried.problem else ("ready", tried.model)
        if (state, detail) != (self._bus.state, self._bus.detail):
            self._bus.ready("degraded" if tried.problem else "ready", detail)

    # --- its work --------------------------------------------------------------------------

    def _prepare(self, request: Prepare) -> None:
        """Read ahead unless there is something to answer; what is out of date goes unread."""
        if self._worker.has(_PREPARE):
            self._to_read = request
            if not begins_with(before_question(request.messages, request.question), self._reading):
                self._worker.cancel(_PREPARE)
        elif not self._worker.busy_ms():
            self._read(request)

    def _read(self, request: Prepare) -> None:
        messages = before_question(request.messages, request.question)
        fixed = self._fixed(messages)
        self._reading, self._to_read = messages, None

        def read(_emit: Emit, cancelled: Cancelled) -> None:
            if self._engine:
                self._engine.warm(
                    messages,
                    cancelled,
                    session_id=request.session_id,
                    opening=fixed,
                    max_tokens=self._config.llm.max_tokens,
                    whole=request.whole,
                )

        self._worker.submit(
            _PREPARE,
            read,
            bound_ms=self._bound_ms,
            on_error=lambda _: None,
            owner=request.session_id,
        )

    def _follow(self, remote: dict[str, int]) -> None:
        """Forget what was said in sessions that are over."""
        before, self._remote = self._remote, remote
        kept = {LOCAL_SESSION, *(name for name, _ in before.items() & remote.items())}

        def forget(_emit: Emit, _cancelled: Cancelled) -> None:
            if self._engine:
                self._engine.keep_only(kept)

        if before.items() - remote.items():
            self._worker.submit(_FORGET, forget, bound_ms=self._bound_ms, on_error=lambda _: None)

    def _fixed(self, messages: Sequence[ChatMessage]) -> int:
        """How many messages at the beginning are those of every conversation."""
        count = len(self._opening)
        return count if tuple(messages[:count]) == self._opening else 0

    def _speech(self) -> SpeechStream:
        words = self._first_clause_words
        if not words:
            splitter = SentenceSplitter(first_phrase_words=_PHRASE_WORDS, pieces_are_tokens=True)
        else:
            splitter = SentenceSplitter(
                first_clause_words=words, first_phrase_words=2 * words, pieces_are_tokens=True
            )
        return SpeechStream(splitter)

    def _take(self, request: Generate) -> None:
        self._to_read = None
        if not begins_with(request.messages, self._reading):
            self._worker.cancel(_PREPARE)
        received_ns = time.monotonic_ns()
        sent = 0
        started_ns = first_token_ns = 0

        def chunk(
            text: str = "", *, last: bool = False, call: str = "", error: str = ""
        ) -> ReplyChunk:
            nonlocal sent
            stats = self._engine.stats if self._engine else GenerationStats()
            now_ns = time.monotonic_ns()
            message = ReplyChunk(
                session_id=request.session_id,
                request_id=request.request_id,
                index=sent,
                text=text,
                last=last,
                received_ns=received_ns,
                started_ns=started_ns,
                first_token_ns=first_token_ns or now_ns,
                finished_ns=now_ns,
                prompt_tokens=stats.prompt_tokens,
                cached_tokens=stats.cached_tokens,
                question_complete=stats.question_complete,
                call=call,
                error=error,
            )
            sent += 1
            return message

        if self._engine is None:  # whoever asks must not wait for a model to be loaded
            self._bus.publish(chunk(last=True, error=self._problem or "the model is loading"))
            return

        def tell_opinion(emit: Emit) -> None:
            complete = self._engine.stats.question_complete if self._engine else None
            if complete is not None:
                emit(
                    QuestionRead(
                        session_id=request.session_id,
                        request_id=request.request_id,
                        complete=complete,
                    )
                )

        def generate(emit: Emit, cancelled: Cancelled) -> None:
            nonlocal started_ns, first_token_ns
            started_ns = time.monotonic_ns()
            assert self._engine is not None
            answer = Answer(self._speech(), may_call=bool(request.grammar), spoken=request.spoken)
            for piece in self._engine.generate(
                request.messages,
                max_tokens=request.max_tokens,
                cancelled=cancelled,
                # a note must not take the place of what was read of the conversation
                session_id=request.session_id if request.spoken else "",
                opening=self._fixed(request.messages),
                grammar=request.grammar,
            ):
                if not first_token_ns:
                    first_token_ns = time.monotonic_ns()
                    tell_opinion(emit)
                for text in answer.push(piece):
                    emit(chunk(text))
                if answer.ended:
                    break
            if cancelled():
                return
            rest, call = answer.finish()
            for text in rest[:-1]:
                emit(chunk(text))
            emit(chunk(rest[-1] if rest else "", last=True, call=call))

        self._worker.submit(
            request.request_id,
            generate,
            bound_ms=4 * self._bound_ms,
            on_error=lambda text: chunk(last=True, error=text),
            owner=request.session_id,
        )

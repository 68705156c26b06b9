"""The llm process: a conversation in, speakable chunks of its answer out, as they are written."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.llm.engine import LlmEngine, create_llm_engine
from appliance.llm.prompt import opening
from appliance.messages import (
    Cancel,
    ChatMessage,
    Generate,
    Prepare,
    ReplyChunk,
    ServiceLevel,
)
from appliance.models.store import ensure_model
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import speakable

logger = logging.getLogger(__name__)

TOPICS = (Prepare.topic, Generate.topic, Cancel.topic, ServiceLevel.topic)

_PREPARE = "prepare"
_CHANGE_BOUND_MS = 60_000
_PHRASE_WORDS = 3
"""An answer's first phrase may be spoken from so many words on: while they are heard the next ones
are written."""


@dataclass(frozen=True)
class _Changed:
    """From the worker: another model answers from now on."""

    model: str


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    service = _Service(bus, config, load_engine(config, config.llm.model))
    bus.ready(detail=config.llm.model)
    while bus.running:
        service.step()


def load_engine(config: Config, model: str) -> LlmEngine:
    """A language model with the instructions read already.

    Raises:
        ApplianceError: its files are missing or damaged, or there is not enough memory.
    """
    folder = ensure_model(model, root=config.models_path)
    weights = next(folder.glob("*.gguf"), None)
    if weights is None:
        raise ApplianceError(f"{model} is not a language model: set another [llm] model")
    engine = create_llm_engine(
        weights,
        model,
        n_ctx=config.llm.context_tokens,
        n_threads=config.llm.threads,
        n_threads_batch=config.llm.threads,
    )
    engine.warm(before_question(opening(config.llm.system_prompt, config.llm.model)))
    return engine


def before_question(messages: Sequence[ChatMessage], question: str = "") -> tuple[ChatMessage, ...]:
    """The messages with the opening of a question, which the whole question will begin with."""
    return *messages, ChatMessage("user", question)


def begins_with(messages: Sequence[ChatMessage], read: Sequence[ChatMessage]) -> bool:
    """Whether reading `read` is part of reading `messages`: then it is no time lost."""
    *before, last = read or (ChatMessage("user", ""),)
    if len(messages) <= len(before) or list(messages[: len(before)]) != before:
        return False
    following = messages[len(before)]
    return following.role == last.role and following.text.startswith(last.text)


class _Service:
    def __init__(self, bus: Bus, config: Config, engine: LlmEngine) -> None:
        self._bus = bus
        self._config = config
        self._engine = engine
        self._model = config.llm.model
        self._first_clause_words = 0
        self._reading: tuple[ChatMessage, ...] = ()
        """What is read ahead at present, or was last."""
        self._worker = Worker("generate")
        self._bound_ms = config.conductor.llm_timeout_ms
        bus.wake_on(self._worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung

    def step(self) -> None:
        match self._bus.receive():
            case Generate() as request:
                self._take(request)
            case Prepare(messages=messages, question=question) if not self._worker.busy_ms():
                self._read(before_question(messages, question))
            case ServiceLevel() as level:
                self._first_clause_words = level.first_clause_words
                if level.llm_model != self._model:
                    self._change_model(level.llm_model)
            case Cancel(session_id=session_id, id="*"):
                self._worker.cancel_all(session_id)
            case Cancel(id=request_id):
                self._worker.cancel(request_id)
        for message in self._worker.messages():
            match message:
                case ReplyChunk():
                    self._bus.publish(message)
                case _Changed(model=model):
                    self._bus.ready(detail=model)

    def _read(self, messages: tuple[ChatMessage, ...]) -> None:
        self._reading = messages
        self._worker.submit(
            _PREPARE,
            lambda _emit, cancelled: self._engine.warm(messages, cancelled),
            bound_ms=self._bound_ms,
            on_error=lambda _: None,
        )

    def _change_model(self, model: str) -> None:
        """Load another model once the work in hand is done; the old one stays if that fails."""
        self._model = model

        def change(emit: Emit, _cancelled: Cancelled) -> None:
            try:
                engine = load_engine(self._config, model)
            except ApplianceError as error:
                logger.error("going on with the model there is: %s", error)
                return
            self._engine.close()
            self._engine = engine
            emit(_Changed(model))

        self._worker.submit(
            f"change to {model}", change, bound_ms=_CHANGE_BOUND_MS, on_error=lambda _: None
        )

    def _splitter(self) -> SentenceSplitter:
        words = self._first_clause_words
        if not words:
            return SentenceSplitter(first_phrase_words=_PHRASE_WORDS, pieces_are_tokens=True)
        return SentenceSplitter(
            first_clause_words=words, first_phrase_words=2 * words, pieces_are_tokens=True
        )

    def _take(self, request: Generate) -> None:
        if not begins_with(request.messages, self._reading):
            self._worker.cancel(_PREPARE)
        received_ns = time.monotonic_ns()
        sent = 0
        started_ns = first_token_ns = 0

        def chunk(text: str, *, last: bool = False, error: str = "") -> ReplyChunk:
            nonlocal sent
            stats = self._engine.stats
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
                error=error,
            )
            sent += 1
            return message

        def generate(emit: Emit, cancelled: Cancelled) -> None:
            nonlocal started_ns, first_token_ns
            started_ns = time.monotonic_ns()
            splitter = self._splitter()
            for piece in self._engine.generate(
                request.messages, max_tokens=request.max_tokens, cancelled=cancelled
            ):
                first_token_ns = first_token_ns or time.monotonic_ns()
                for text in splitter.push(piece):
                    if spoken := speakable(text):
                        emit(chunk(spoken))
            if cancelled():
                return
            rest = [spoken for text in splitter.flush() if (spoken := speakable(text))]
            for text in rest[:-1]:
                emit(chunk(text))
            emit(chunk(rest[-1] if rest else "", last=True))

        self._worker.submit(
            request.request_id,
            generate,
            bound_ms=4 * self._bound_ms,
            on_error=lambda text: chunk("", last=True, error=text),
            owner=request.session_id,
        )

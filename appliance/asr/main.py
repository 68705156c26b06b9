"""The asr process: reads named stretches of the mic ring, publishes their words.

While speech goes on and nothing else is to do, it is heard as far as it has come. Whatever is
asked for goes first: a hearing under way stops, unless it already holds all that is asked.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import TranscriptionCancelledError, create_engine
from appliance.asr.hearings import Hearings
from appliance.asr.streaming import LiveUtterance, only_silence_since
from appliance.asr.transcriber import Transcriber
from appliance.asr.vocabulary import load_vocabulary
from appliance.asr.words import Vocabulary
from appliance.audio.blocks import RATE_HZ
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import (
    Cancel,
    DialogueWords,
    Heartbeat,
    PartialTranscript,
    ServiceLevel,
    SpeechContinued,
    Transcribe,
    Transcript,
    heartbeat_topic,
)
from appliance.models.store import ensure_model

logger = logging.getLogger(__name__)

TOPICS = (
    Transcribe.topic,
    Cancel.topic,
    SpeechContinued.topic,
    DialogueWords.topic,
    ServiceLevel.topic,
    heartbeat_topic("capture"),
)
_PARTIAL = "partial"
_LOAD_BOUND_MS = 120_000
_DIALOGUE_TURNS = 3
_SESSIONS = 16


@dataclass(frozen=True)
class Loaded:
    """A model that is ready."""

    model: str
    engine: str
    transcriber: Transcriber


def load(config: Config, model: str) -> Loaded:
    """Load ``model`` and warm it up.

    Raises:
        ApplianceError: it is missing or corrupt.
    """
    engine = create_engine(
        config.asr.engine,
        ensure_model(model, root=config.models_path),
        threads=config.asr.threads,
        figures_ms=config.asr.figures_ms,
    )
    transcriber = Transcriber(engine, language=config.asr.language, context=config.asr.context)
    transcriber.glimpse(np.zeros(RATE_HZ // 2, np.float32))
    return Loaded(model, engine.name, transcriber)


def _vocabulary(config: Config) -> Vocabulary | None:
    """The names and words likely here; None, with a line in the log, if that cannot be had."""
    try:
        return load_vocabulary(
            config.asr.vocabulary,
            language=config.asr.language,
            model_dir=ensure_model(config.asr.model, root=config.models_path),
        )
    except ApplianceError as error:
        logger.error("going on without a vocabulary: %s", error)
        return None


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    service = Service(bus, config, load(config, config.asr.model), _vocabulary(config))
    while bus.running:
        service.step()
    service.close()


class Service:
    """The process's loop around its workers."""

    def __init__(
        self, bus: Bus, config: Config, loaded: Loaded, vocabulary: Vocabulary | None = None
    ) -> None:
        self._bus = bus
        self._config = config
        self._loaded = loaded
        self._wanted_model = loaded.model
        self._dialogues: dict[str, list[str]] = {}
        """What was said last, by session."""
        self._reader = RingReader(config.shm_prefix, MIC_RING.name)
        self._hearings = Hearings(
            self._reader.read_span,
            lambda: LiveUtterance(self._loaded.transcriber, vocabulary),
        )
        self._worker = Worker("transcribe")
        self._loader = Worker("load")
        self._partial: tuple[str, int] = ("", 0)
        """Utterance and samples of the latest hearing of unfinished speech."""
        self._bound_ms = config.conductor.asr_timeout_ms
        for worker in (self._worker, self._loader):
            bus.wake_on(worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung
        bus.ready(detail=f"{loaded.engine}, {loaded.model}")

    def step(self) -> None:
        """Wait for one message, or for a worker, and do what follows."""
        match self._bus.receive():
            case Heartbeat(rings=rings) if MIC_RING.name in rings:
                # map each life of the ring before it is needed: a dead one cannot be found later
                self._reader.attach(rings[MIC_RING.name])
            case Transcribe() as request:
                self._take(request)
            case SpeechContinued() as event if self._config.asr.partials and self._worker.idle:
                self._hear_so_far(event)
            case Cancel(id="*"):
                self._worker.cancel_all()
            case Cancel(id=request_id):
                self._worker.cancel(request_id)
            case DialogueWords(session_id=session_id, text=text):
                self._remember(session_id, text)
            case ServiceLevel(asr_model=model) if model != self._wanted_model:
                self._change_model(model)
        for message in self._worker.messages():
            if isinstance(message, Transcript | PartialTranscript):
                self._bus.publish(message)
        for message in self._loader.messages():
            if isinstance(message, Loaded):
                self._use(message)
        self._bus.counters = {"lost_blocks": self._reader.lost_blocks}

    def _hear_so_far(self, event: SpeechContinued) -> None:
        for span in event.spans:
            self._reader.attach(span.epoch)
        hearing = self._hearings.extend(event.utterance_id, event.spans)
        live, samples, dialogue = hearing.live, hearing.samples, self._dialogue(event.session_id)

        def hear(emit: Emit, cancelled: Cancelled) -> None:
            try:
                partial = live.partial(samples, dialogue=dialogue, cancelled=cancelled)
            except TranscriptionCancelledError:
                return
            emit(
                PartialTranscript(
                    session_id=event.session_id,
                    utterance_id=event.utterance_id,
                    stable=partial.stable,
                    tail=partial.tail,
                    heard_ms=1000 * partial.heard_s,
                    finished_ns=time.monotonic_ns(),
                )
            )

        self._partial = event.utterance_id, len(samples)
        self._worker.submit(_PARTIAL, hear, bound_ms=self._bound_ms, on_error=lambda _: None)

    def _take(self, request: Transcribe) -> None:
        received_ns = time.monotonic_ns()
        for span in request.spans:
            self._reader.attach(span.epoch)
        # copied here and now: while the request waits in the queue the ring goes on
        hearing = self._hearings.extend(request.utterance_id, request.spans)
        live, samples, lost_blocks = hearing.live, hearing.samples, hearing.lost_blocks
        engine, dialogue = self._loaded.engine, self._dialogue(request.session_id)
        if not self._hears_all(request.utterance_id, samples):
            self._worker.cancel(_PARTIAL)

        def answer(
            text: str = "",
            error: str = "",
            avg_logprob: float = 0.0,
            corrections: tuple[tuple[str, str], ...] = (),
        ) -> Transcript:
            return Transcript(
                session_id=request.session_id,
                request_id=request.request_id,
                text=text,
                audio_ms=1000 * len(samples) / RATE_HZ,
                lost_blocks=lost_blocks,
                received_ns=received_ns,
                finished_ns=time.monotonic_ns(),
                engine=engine,
                error=error,
                avg_logprob=avg_logprob,
                corrections=corrections,
            )

        def transcribe(emit: Emit, cancelled: Cancelled) -> None:
            try:
                if request.quick:
                    so_far = live.partial(samples, dialogue=dialogue, cancelled=cancelled)
                    emit(answer(f"{so_far.stable} {so_far.tail}".strip()))
                    return
                final = live.final(samples, dialogue=dialogue, cancelled=cancelled)
            except TranscriptionCancelledError:
                return
            emit(answer(final.text, avg_logprob=final.avg_logprob, corrections=final.corrections))

        self._worker.submit(
            request.request_id,
            transcribe,
            bound_ms=self._bound_ms,
            on_error=lambda text: answer(error=text),
        )

    def _hears_all(self, utterance_id: str, samples: NDArray[np.float32]) -> bool:
        """Whether the partial under way holds all the speech there is in ``samples``."""
        partial_id, heard = self._partial
        return partial_id == utterance_id and only_silence_since(samples, heard)

    def _remember(self, session_id: str, text: str) -> None:
        turns = [*self._dialogues.pop(session_id, ()), " ".join(text.split())]
        self._dialogues[session_id] = turns[-_DIALOGUE_TURNS:]
        while len(self._dialogues) > _SESSIONS:
            self._dialogues.pop(next(iter(self._dialogues)))

    def _dialogue(self, session_id: str) -> str:
        """What was said last in a session, a turn a line."""
        return "\n".join(self._dialogues.get(session_id, ()))

    def _change_model(self, model: str) -> None:
        """Load another model beside the one in use."""
        self._wanted_model = model
        if model == self._loaded.model:
            return

        def change(emit: Emit, _: Cancelled) -> None:
            try:
                emit(load(self._config, model))
            except ApplianceError as error:
                logger.error("going on with the model there is: %s", error)

        self._loader.submit(model, change, bound_ms=_LOAD_BOUND_MS, on_error=lambda _: None)

    def _use(self, loaded: Loaded) -> None:
        if loaded.model != self._wanted_model:
            return  # by now another one is wanted
        self._loaded = loaded
        self._hearings.forget()
        self._bus.ready(detail=f"{loaded.engine}, {loaded.model}")

    def close(self) -> None:
        """Let go of the ring."""
        self._reader.close()

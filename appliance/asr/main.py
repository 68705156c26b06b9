"""The asr process: reads named stretches of the mic rings, publishes their words.

While speech goes on and nothing else is to do, it is heard as far as it has come. Whatever is
asked for goes first: a hearing under way stops, unless it already holds all that is asked. Requests
are answered in the order in which they came, whatever their sessions; where speech goes on in
several sessions, they are heard by turns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.asr.ears import Ear, Ears
from appliance.asr.engine import TranscriptionCancelledError, create_engine
from appliance.asr.streaming import LiveUtterance, only_silence_since
from appliance.asr.transcriber import Transcriber
from appliance.asr.vocabulary import load_vocabulary
from appliance.asr.words import Vocabulary
from appliance.audio.blocks import RATE_HZ
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Job, Worker
from appliance.messages import (
    Cancel,
    DialogueWords,
    Heartbeat,
    Message,
    PartialTranscript,
    ServiceLevel,
    Sessions,
    SpeechContinued,
    Transcribe,
    Transcript,
    heartbeat_topic,
)
from appliance.models.store import ensure_model
from appliance.processes import mic_ring

logger = logging.getLogger(__name__)

TOPICS = (
    Transcribe.topic,
    Cancel.topic,
    SpeechContinued.topic,
    DialogueWords.topic,
    ServiceLevel.topic,
    Sessions.topic,
    heartbeat_topic("capture"),
)
_PARTIAL = "partial"
_LOAD_BOUND_MS = 120_000


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
        self._ears = Ears(
            lambda session_id: Ear(
                RingReader(config.shm_prefix, mic_ring(session_id)),
                lambda: LiveUtterance(self._loaded.transcriber, vocabulary),
            )
        )
        self._worker = Worker("transcribe")
        self._loader = Worker("load")
        self._partial: tuple[SpeechContinued | None, int] = None, 0
        """The latest hearing of unfinished speech, and its samples."""
        self._waiting: dict[str, SpeechContinued] = {}
        """Sessions whose unfinished speech is to be heard, who waits longest first."""
        self._busy_with = ""
        """The session of the newest job."""
        self._bound_ms = config.conductor.asr_timeout_ms
        for worker in (self._worker, self._loader):
            bus.wake_on(worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung
        bus.ready(detail=f"{loaded.engine}, {loaded.model}")

    def step(self) -> None:
        """Wait for one message, or for a worker, and do what follows."""
        if (message := self._bus.receive()) is not None:
            self._take_message(message)
        for result in self._worker.messages():
            if isinstance(result, Transcript | PartialTranscript):
                self._bus.publish(result)
        for result in self._loader.messages():
            if isinstance(result, Loaded):
                self._use(result)
        if self._waiting and self._worker.idle:
            self._hear_so_far(self._waiting.pop(next(iter(self._waiting))))
        self._bus.counters = {"lost_blocks": self._ears.lost_blocks}

    def _take_message(self, message: Message) -> None:
        match message:
            case Heartbeat(rings=rings) if MIC_RING.name in rings:
                # map each life of the ring before it is needed: a dead one cannot be found later
                self._ears.local.reader.attach(rings[MIC_RING.name])
            case Transcribe():
                self._take(message)
            case SpeechContinued() if self._config.asr.partials:
                # a session's own work goes first: by the time it is done this is out of date
                if self._worker.idle or message.session_id != self._busy_with:
                    self._waiting[message.session_id] = message
            case Cancel(session_id=session_id, id="*"):
                self._worker.cancel_all(session_id)
            case Cancel(id=request_id):
                self._worker.cancel(request_id)
            case DialogueWords(session_id=session_id, text=text):
                if ear := self._ears.of(session_id):
                    ear.remember(text)
            case Sessions():
                for session_id in self._ears.follow(message):
                    self._worker.cancel_all(session_id)
                    self._waiting.pop(session_id, None)
            case ServiceLevel(asr_model=model) if model != self._wanted_model:
                self._change_model(model)

    def _hear_so_far(self, event: SpeechContinued) -> None:
        ear = self._ears.of(event.session_id)
        if ear is None:
            return
        hearing = ear.hear(event.utterance_id, event.spans)
        live, samples, dialogue = hearing.live, hearing.samples, ear.dialogue

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

        self._partial = event, len(samples)
        self._submit(_PARTIAL, event.session_id, hear, lambda _: None)

    def _submit(
        self, job_id: str, session_id: str, job: Job, on_error: Callable[[str], object]
    ) -> None:
        self._busy_with = session_id
        self._worker.submit(
            job_id, job, bound_ms=self._bound_ms, on_error=on_error, owner=session_id
        )

    def _take(self, request: Transcribe) -> None:
        received_ns = time.monotonic_ns()
        ear = self._ears.of(request.session_id)
        if ear is None:
            logger.error("asked for the words of a session that cannot be")
            return
        # copied here and now: while the request waits in the queue the ring goes on
        hearing = ear.hear(request.utterance_id, request.spans)
        live, samples, lost_blocks = hearing.live, hearing.samples, hearing.lost_blocks
        engine, dialogue = self._loaded.engine, ear.dialogue
        self._waiting.pop(request.session_id, None)
        self._make_way(request, samples)

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

        self._submit(
            request.request_id, request.session_id, transcribe, lambda text: answer(error=text)
        )

    def _make_way(self, request: Transcribe, samples: NDArray[np.float32]) -> None:
        """Stop the hearing of unfinished speech, unless it holds all that is asked for."""
        under_way, heard = self._partial
        if under_way is None or not self._worker.has(_PARTIAL):
            return
        if under_way.session_id != request.session_id:
            self._waiting.setdefault(under_way.session_id, under_way)  # it goes on afterwards
        elif under_way.utterance_id == request.utterance_id and only_silence_since(samples, heard):
            return
        self._worker.cancel(_PARTIAL)

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
        self._ears.begin_anew()
        self._bus.ready(detail=f"{loaded.engine}, {loaded.model}")

    def close(self) -> None:
        """Let go of the rings."""
        self._ears.close()

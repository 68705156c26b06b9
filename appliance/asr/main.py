"""The asr process: reads named stretches of the mic ring, publishes their words."""

from __future__ import annotations

import logging
import time

import numpy as np

from appliance.asr.engine import AsrEngine, TranscriptionCancelledError, create_engine
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import RATE_HZ
from appliance.config import Config
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import (
    Cancel,
    Heartbeat,
    Transcribe,
    Transcript,
    heartbeat_topic,
)
from appliance.models.store import ensure_model

logger = logging.getLogger(__name__)

TOPICS = (Transcribe.topic, Cancel.topic, heartbeat_topic("capture"))


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    engine = create_engine(
        config.asr.engine,
        ensure_model(config.asr.model, root=config.models_path),
        threads=config.asr.threads,
        figures_ms=config.asr.figures_ms,
    )
    service = _Service(bus, config, engine)
    bus.ready(detail=f"{engine.name}, {config.asr.model}")
    while bus.running:
        service.step()
    service.close()


class _Service:
    def __init__(self, bus: Bus, config: Config, engine: AsrEngine) -> None:
        self._bus = bus
        self._engine_name = engine.name
        self._transcriber = Transcriber(
            engine, language=config.asr.language, context=config.asr.context
        )
        self._transcriber.transcribe(np.zeros(RATE_HZ // 2, np.float32))  # warms everything up
        self._reader = RingReader(config.shm_prefix, MIC_RING.name)
        self._worker = Worker("transcribe")
        self._bound_ms = config.conductor.asr_timeout_ms
        bus.wake_on(self._worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung

    def step(self) -> None:
        match self._bus.receive():
            case Heartbeat(rings=rings) if MIC_RING.name in rings:
                # map each life of the ring before it is needed: a dead one cannot be found later
                self._reader.attach(rings[MIC_RING.name])
            case Transcribe() as request:
                self._take(request)
            case Cancel(id="*"):
                self._worker.cancel_all()
            case Cancel(id=request_id):
                self._worker.cancel(request_id)
        for message in self._worker.messages():
            if isinstance(message, Transcript):
                self._bus.publish(message)
        self._bus.counters = {"lost_blocks": self._reader.lost_blocks}

    def _take(self, request: Transcribe) -> None:
        received_ns = time.monotonic_ns()
        for span in request.spans:
            self._reader.attach(span.epoch)
        # copied here and now: while the request waits in the queue the ring goes on
        samples, lost = self._reader.read_span(request.spans)

        def answer(text: str = "", error: str = "") -> Transcript:
            return Transcript(
                session_id=request.session_id,
                request_id=request.request_id,
                text=text,
                audio_ms=1000 * len(samples) / RATE_HZ,
                lost_blocks=lost,
                received_ns=received_ns,
                finished_ns=time.monotonic_ns(),
                engine=self._engine_name,
                error=error,
            )

        def transcribe(emit: Emit, cancelled: Cancelled) -> None:
            try:
                utterance = self._transcriber.transcribe(samples, cancelled=cancelled)
            except TranscriptionCancelledError:
                return
            emit(answer(utterance.text))

        self._worker.submit(
            request.request_id,
            transcribe,
            bound_ms=self._bound_ms,
            on_error=lambda text: answer(error=text),
        )

    def close(self) -> None:
        self._reader.close()

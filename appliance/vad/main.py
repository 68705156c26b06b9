"""The vad process: reads the mic ring, says who speaks when, and whether they have finished."""

from __future__ import annotations

import logging
import time

from appliance.config import Config, VadConfig
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Bus
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import (
    LOCAL_SESSION,
    BlocksReady,
    EndOfTurn,
    Message,
    SpeechEvent,
    SpeechPaused,
    ring_topic,
)
from appliance.models.store import ensure_model
from appliance.vad.detector import DetectorSettings, SpeechDetector
from appliance.vad.end_of_turn import EndOfTurnModel, SmartTurn
from appliance.vad.engine import SileroDetector
from appliance.vad.near_end import NearEndReflex, ReflexSettings
from appliance.vad.stream import SpeechStream, without_stale
from appliance.vad.wake_word import MicroWakeWordModel, WakeWordListener

logger = logging.getLogger(__name__)

TOPICS = (ring_topic(MIC_RING.name),)
REWIND_BLOCKS = 1_000
"""10 s: a successor hears again what its predecessor heard, and so arrives where it was."""
_JUDGEMENT_BOUND_MS = 5_000
_RECENT_NS = 2_000_000_000


def detector_settings(config: VadConfig) -> DetectorSettings:
    """The detector's settings; whatever the configuration admits is good for the detector."""
    return DetectorSettings(
        start_threshold=config.onset_probability,
        stop_threshold=config.offset_probability,
        onset_ms=config.onset_ms,
        onset_window_ms=max(500, config.onset_ms),
        pre_roll_ms=config.preroll_ms,
        pause_ms=config.pause_ms,
        end_ms=config.fallback_ms,
        max_segment_s=config.max_segment_s,
    )


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    service = _Service(config, bus)
    bus.ready()
    while bus.running:
        service.step()
    service.close()


class _Service:
    def __init__(self, config: Config, bus: Bus) -> None:
        vad = config.vad
        self._bus = bus
        self._stream = SpeechStream(
            LOCAL_SESSION,
            SpeechDetector(detector_settings(vad)),
            SileroDetector(ensure_model("silero-vad", root=config.models_path)),
            NearEndReflex(
                ReflexSettings(
                    start_threshold=vad.onset_probability, stop_threshold=vad.offset_probability
                )
            ),
        )
        self._listener: WakeWordListener | None = None
        if vad.wake_word:
            model = MicroWakeWordModel(vad.wake_word)
            self._listener = WakeWordListener(LOCAL_SESSION, model, vad.wake_threshold)
        self._judge: _Judge | None = None
        if vad.end_of_turn != "off":
            smart_turn = SmartTurn(ensure_model(vad.end_of_turn, root=config.models_path))
            self._judge = _Judge(smart_turn, bus)
        self._reader = RingReader(config.shm_prefix, MIC_RING.name)

    def step(self) -> None:
        message = self._bus.receive()
        if isinstance(message, BlocksReady):
            self._hear(message)
        if self._judge is not None:
            for judgement in self._judge.results():
                self._bus.publish(judgement)

    def _hear(self, announcement: BlocksReady) -> None:
        if self._reader.announced(announcement, rewind_blocks=REWIND_BLOCKS):
            logger.info("mic ring of epoch %d attached", announcement.epoch)
        blocks = self._reader.read()
        told = self._stream.step(
            blocks,
            direction_deg=announcement.direction_deg,
            far_end_active=announcement.far_end_active,
        )
        for event in without_stale(told):
            self._bus.publish(event)
        if self._judge is not None and (paused := _paused_now(told)):
            self._judge.ask(paused, self._stream)
        if self._listener is not None:
            calls = [call for block in blocks if (call := self._listener.take(block))]
            for call in calls:
                if time.monotonic_ns() - call.end_ns < _RECENT_NS:  # not one of a backlog
                    self._bus.publish(call)
        self._bus.counters = {"lost_blocks": self._reader.lost_blocks}

    def close(self) -> None:
        self._reader.close()


class _Judge:
    """Has each pause judged beside the loop, which must go on hearing."""

    def __init__(self, model: EndOfTurnModel, bus: Bus) -> None:
        self._model = model
        self._worker = Worker("end-of-turn")
        self._asked = ""
        bus.wake_on(self._worker.descriptor)
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung

    def ask(self, paused: SpeechPaused, stream: SpeechStream) -> None:
        samples = stream.turn_so_far()

        def judge(emit: Emit, _: Cancelled) -> None:
            probability = self._model.probability(samples)
            emit(
                EndOfTurn(
                    session_id=paused.session_id,
                    utterance_id=paused.utterance_id,
                    speech_end_ns=paused.speech_end_ns,
                    probability=probability,
                    decided_ns=time.monotonic_ns(),
                )
            )

        self._worker.cancel(self._asked)  # one that still waits for its turn is of no use now
        self._asked = f"{paused.utterance_id}/{paused.speech_end_ns}"
        # without a judgement the turn ends by silence alone; the error is in the log
        self._worker.submit(self._asked, judge, bound_ms=_JUDGEMENT_BOUND_MS, on_error=str)

    def results(self) -> list[EndOfTurn]:
        return [m for m in self._worker.messages() if isinstance(m, EndOfTurn)]


def _paused_now(told: list[Message]) -> SpeechPaused | None:
    """The pause that has just begun, if one has; of a backlog only the present counts."""
    events = [message for message in told if isinstance(message, SpeechEvent)]
    return events[-1] if events and isinstance(events[-1], SpeechPaused) else None

"""The vad process: reads the mic rings, says who speaks when, and whether they have finished.

One hearing per session, on models that they share.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from appliance.config import Config, VadConfig
from appliance.ipc.audio_ring import RingReader
from appliance.ipc.bus import Bus
from appliance.ipc.sessions import OpenSessions
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import (
    LOCAL_SESSION,
    BlocksReady,
    Company,
    EndOfTurn,
    Sessions,
    SpeechPaused,
    ring_topic,
)
from appliance.models.store import ensure_model
from appliance.processes import REMOTE_SESSIONS, mic_ring
from appliance.vad.detector import DetectorSettings
from appliance.vad.end_of_turn import EndOfTurnModel, SmartTurn
from appliance.vad.engine import SileroDetector
from appliance.vad.near_end import NearEndReflex, ReflexSettings
from appliance.vad.scores import ScoredDetector
from appliance.vad.session import Session, paused_now
from appliance.vad.stream import SpeechStream, without_stale
from appliance.vad.wake_word import MicroWakeWordModel, WakeWordListener

logger = logging.getLogger(__name__)

TOPICS = (
    *(ring_topic(mic_ring(session_id)) for session_id in (LOCAL_SESSION, *REMOTE_SESSIONS)),
    Sessions.topic,
    Company.topic,
)
_JUDGEMENT_BOUND_MS = 5_000
_CERTAIN = 2.0
"""A belief that never is: what a browser sends says nothing about what is left of its echo."""


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
        self._config = config
        self._bus = bus
        self._voice = SileroDetector(ensure_model("silero-vad", root=config.models_path))
        self._open = OpenSessions()
        self._lost_blocks = 0
        """Of sessions that have closed."""
        listener = None
        if vad.wake_word:
            model = MicroWakeWordModel(vad.wake_word)
            listener = WakeWordListener(LOCAL_SESSION, model, vad.wake_threshold)
        reflex = ReflexSettings(
            start_threshold=vad.onset_probability, stop_threshold=vad.offset_probability
        )
        self._remote_reflex = replace(reflex, near_end=_CERTAIN)
        local = self._session(LOCAL_SESSION, reflex, listener)
        self._by_mic = {mic_ring(LOCAL_SESSION): local}
        self._judge: _Judge | None = None
        if vad.end_of_turn != "off":
            smart_turn = SmartTurn(ensure_model(vad.end_of_turn, root=config.models_path))
            self._judge = _Judge(smart_turn, bus)

    def _session(
        self, session_id: str, reflex: ReflexSettings, listener: WakeWordListener | None = None
    ) -> Session:
        detector = ScoredDetector(detector_settings(self._config.vad))
        return Session(
            session_id,
            RingReader(self._config.shm_prefix, mic_ring(session_id)),
            SpeechStream(
                session_id,
                detector,
                self._voice.for_another_stream(),
                NearEndReflex(reflex),
            ),
            detector,
            listener,
        )

    def step(self) -> None:
        message = self._bus.receive()
        if isinstance(message, BlocksReady):
            if session := self._by_mic.get(message.ring):
                self._hear(session, message)
        elif isinstance(message, Sessions):
            self._follow(message)
        elif isinstance(message, Company) and message.session_id == LOCAL_SESSION:
            self._by_mic[mic_ring(LOCAL_SESSION)].stream.company(message)
        if self._judge is not None:
            for judgement in self._judge.results():
                self._bus.publish(judgement)

    def _hear(self, session: Session, announcement: BlocksReady) -> None:
        told = session.hear(announcement)
        for event in without_stale(told):
            self._bus.publish(event)
        if self._judge is not None and (paused := paused_now(told)):
            self._judge.ask(paused, session.stream)
        if scores := session.detector.told(told):
            self._bus.publish(scores)
        self._bus.counters = {
            "lost_blocks": self._lost_blocks
            + sum(session.reader.lost_blocks for session in self._by_mic.values()),
            "unread_blocks": max(s.reader.most_unread_blocks for s in self._by_mic.values()),
        }

    def _follow(self, message: Sessions) -> None:
        closed, opened = self._open.step(message)
        for session_id in closed:
            session = self._by_mic.pop(mic_ring(session_id))
            self._lost_blocks += session.reader.lost_blocks
            session.reader.close()
            if self._judge is not None:
                self._judge.forget(session_id)
        for session_id in opened:
            self._by_mic[mic_ring(session_id)] = self._session(session_id, self._remote_reflex)

    def close(self) -> None:
        for session in self._by_mic.values():
            session.reader.close()


class _Judge:
    """Has each pause judged beside the loop, which must go on hearing."""

    def __init__(self, model: EndOfTurnModel, bus: Bus) -> None:
        self._model = model
        self._worker = Worker("end-of-turn")
        self._asked: dict[str, str] = {}
        """The pause of each session that was asked about last."""
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

        self.forget(paused.session_id)  # one that still waits for its turn is of no use now
        name = f"{paused.session_id}/{paused.utterance_id}/{paused.speech_end_ns}"
        self._asked[paused.session_id] = name
        # without a judgement the turn ends by silence alone; the error is in the log
        self._worker.submit(name, judge, bound_ms=_JUDGEMENT_BOUND_MS, on_error=str)

    def forget(self, session_id: str) -> None:
        """Nobody waits for the judgement of this session's pause any more."""
        self._worker.cancel(self._asked.pop(session_id, ""))

    def results(self) -> list[EndOfTurn]:
        return [m for m in self._worker.messages() if isinstance(m, EndOfTurn)]

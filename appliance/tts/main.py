"""The tts process: text to speech, its playback, and the record of what was really played."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

import numpy as np

from appliance.audio.devices import DeviceLost
from appliance.audio.player import PlaybackEventKind
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import SPEAKER_RING, RingWriter
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import Cancel, PiecePlayed, PlaybackEnded, PlaybackStarted, Speak
from appliance.models.store import ensure_model
from appliance.tts.engine import TtsEngine, create_tts_engine
from appliance.tts.playback import Loudspeaker, PlaybackReport
from appliance.tts.progress import Progress
from appliance.tts.reference import FarEnd
from appliance.tts.speech import SpeechShaper, going_on, pause_after_ms

logger = logging.getLogger(__name__)

TOPICS = (Speak.topic, Cancel.topic)
_SWITCH_INTERVAL_S = 0.0005
"""The audio callback waits at most this long for Python's lock while a voice is synthesised."""
_SYNTHESIS_BOUND_MS = 20_000
_RETRY_MS = 50
_PLAYING_POLL_MS = 20


@dataclass(frozen=True)
class _Queued:
    """From the worker: audio of a piece was handed to the loudspeaker."""

    utterance_id: str
    index: int
    text: str
    duration_ms: float
    at_ns: int


@dataclass(frozen=True)
class _Finished:
    """From the worker: the last piece of the utterance has been handed over."""

    utterance_id: str


@dataclass(frozen=True)
class _Failed:
    """From the worker: a piece could not be synthesised."""

    utterance_id: str
    error: str


@dataclass
class _Utterance:
    """What the loop knows of an utterance that has not ended."""

    session_id: str
    received_ns: int
    synthesised_ns: int = 0
    jobs: int = 0
    last_text: str = ""
    underruns: int = 0


def load_engine(config: Config) -> TtsEngine:
    """The voice that is configured.

    Raises:
        ApplianceError: its files are missing or damaged.
    """
    if config.tts.engine == "espeak-ng":
        return create_tts_engine("espeak", voice="en-us")
    folder = ensure_model(config.tts.model, root=config.models_path)
    voice = next(folder.glob("*.onnx"), None)
    if voice is None:
        raise ApplianceError(f"{config.tts.model} is not a voice: set another [tts] model")
    return create_tts_engine(
        "piper", model_path=voice, model_name=config.tts.model, n_threads=config.tts.threads
    )


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    lock = FileLock(bus.runtime_dir / f"{SPEAKER_RING.name}.writer.lock")
    if not lock.acquire():
        raise ApplianceError(f"Another process ({lock.holder()}) writes the speaker ring.")
    loudspeaker = Loudspeaker(config.audio.output_device)
    writer = RingWriter(config.shm_prefix, SPEAKER_RING)
    bus.rings = {SPEAKER_RING.name: writer.epoch}
    try:
        engine, gain_db = load_engine(config), config.audio.output_gain_db
        service = _Service(bus, engine, loudspeaker, writer, gain_db)
        service.open()
        while bus.running:
            service.step()
    finally:
        loudspeaker.close()
        writer.close()


class _Service:
    def __init__(
        self,
        bus: Bus,
        engine: TtsEngine,
        loudspeaker: Loudspeaker,
        writer: RingWriter,
        gain_db: float,
    ) -> None:
        self._bus = bus
        self._engine = engine
        self._loudspeaker = loudspeaker
        self._shaper = SpeechShaper(engine.rate_hz)
        self._far_end = FarEnd(writer)
        self._progress = Progress()
        self._utterances: dict[str, _Utterance] = {}
        self._gain_db = gain_db
        self._has_opened = False
        """Before the loudspeaker was there once, there is nowhere to put audio."""
        self._worker = Worker("synthesise")
        bus.wake_on(self._worker.descriptor)
        bus.wake_on(loudspeaker.fileno())
        bus.busy, bus.hung = self._worker.busy_ms, self._worker.hung

    def open(self) -> None:
        """Open the loudspeaker; without one the process waits for it to appear."""
        try:
            self._loudspeaker.start()
        except (ApplianceError, OSError) as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
        else:
            self._opened()

    def _opened(self) -> None:
        self._has_opened = True
        self._loudspeaker.ramp_gain(self._gain_db, 1.0)
        self._bus.ready(detail=self._loudspeaker.device.name)

    def step(self) -> None:
        if not self._loudspeaker.is_open and self._loudspeaker.reopen_if_due():
            self._opened()
        idle_ms = _PLAYING_POLL_MS if self._utterances else 500
        match self._bus.receive(idle_ms if self._loudspeaker.is_open else _RETRY_MS):
            case Speak() as piece:
                self._take(piece)
            case Cancel(id="*"):
                for utterance_id in list(self._utterances):
                    self._cancel(utterance_id)
            case Cancel(id=utterance_id) if utterance_id in self._utterances:
                self._cancel(utterance_id)
        self._note_synthesis()
        if self._loudspeaker.is_open:
            self._note_playback()

    # --- synthesis -------------------------------------------------------------------------

    def _take(self, piece: Speak) -> None:
        utterance = self._utterances.setdefault(
            piece.utterance_id, _Utterance(piece.session_id, time.monotonic_ns())
        )
        if not self._has_opened:
            self._end(piece.utterance_id, time.monotonic_ns(), 0.0, error="no loudspeaker")
            return
        utterance.jobs += 1
        pause_ms = pause_after_ms(utterance.last_text) if utterance.last_text else 0.0
        utterance.last_text = piece.text
        rate_hz = self._engine.rate_hz

        def synthesise(emit: Emit, cancelled: Cancelled) -> None:
            before_ms = pause_ms
            text = going_on(piece.text) if not piece.last else piece.text
            for audio in self._engine.synthesise(text, cancelled=cancelled):
                speech = self._shaper.shape(audio, pause_ms=before_ms)
                if speech is None:
                    continue
                if cancelled() or not self._loudspeaker.enqueue(
                    piece.utterance_id, speech.samples, rate_hz
                ):
                    emit(_Finished(piece.utterance_id))  # nothing more of it will be heard
                    return
                before_ms = pause_after_ms(".")  # an engine renders sentence by sentence
                emit(
                    _Queued(
                        piece.utterance_id,
                        piece.index,
                        piece.text,
                        1000 * len(speech.samples) / rate_hz,
                        time.monotonic_ns(),
                    )
                )
            if piece.last and not cancelled():
                emit(_Finished(piece.utterance_id))
                self._loudspeaker.finish(piece.utterance_id)

        self._worker.submit(
            _job_id(piece.utterance_id, utterance.jobs),
            synthesise,
            bound_ms=_SYNTHESIS_BOUND_MS,
            on_error=lambda text: _Failed(piece.utterance_id, text),
        )

    def _cancel(self, utterance_id: str) -> None:
        utterance = self._utterances[utterance_id]
        for job in range(1, utterance.jobs + 1):
            self._worker.cancel(_job_id(utterance_id, job))
        self._loudspeaker.flush(utterance_id)
        if not self._progress.has_audio(utterance_id):
            self._end(utterance_id, time.monotonic_ns(), 0.0, interrupted=True)

    def _note_synthesis(self) -> None:
        for event in self._worker.messages():
            match event:
                case _Queued():
                    utterance = self._utterances.get(event.utterance_id)
                    if utterance is None:
                        continue
                    utterance.synthesised_ns = utterance.synthesised_ns or event.at_ns
                    self._progress.queued(
                        event.utterance_id, event.index, event.text, event.duration_ms
                    )
                case _Finished(utterance_id=utterance_id) if utterance_id in self._utterances:
                    self._progress.complete(utterance_id)
                    if not self._progress.has_audio(utterance_id):
                        self._end(utterance_id, time.monotonic_ns(), 0.0)
                case _Failed(utterance_id=utterance_id, error=error):
                    self._loudspeaker.flush(utterance_id)
                    self._end(utterance_id, time.monotonic_ns(), 0.0, error=error)

    # --- playback --------------------------------------------------------------------------

    def _note_playback(self) -> None:
        try:
            reports = self._loudspeaker.reports()
        except DeviceLost as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
            return
        for report in reports:
            self._report(report)
        played = self._loudspeaker.played()
        if announcement := self._far_end.take(played, self._loudspeaker.rate_hz):
            self._bus.publish(announcement)
        if self._utterances:
            for utterance_id, index in self._progress.newly_played(self._loudspeaker.queued_ms):
                if utterance := self._utterances.get(utterance_id):
                    self._bus.publish(
                        PiecePlayed(
                            session_id=utterance.session_id,
                            utterance_id=utterance_id,
                            index=index,
                        )
                    )
        statistics = self._loudspeaker.statistics
        self._bus.counters = {
            "device_underflows": statistics.device_underflows,
            "underruns": self._loudspeaker.underflows,
            "dropped_reference_blocks": statistics.dropped_reference_blocks,
        }

    def _report(self, report: PlaybackReport) -> None:
        utterance = self._utterances.get(report.utterance_id)
        if utterance is None:
            return
        match report.kind:
            case PlaybackEventKind.STARTED:
                self._bus.publish(
                    PlaybackStarted(
                        session_id=utterance.session_id,
                        utterance_id=report.utterance_id,
                        received_ns=utterance.received_ns,
                        synthesised_ns=utterance.synthesised_ns,
                        audible_ns=report.dac_ns,
                    )
                )
            case PlaybackEventKind.UNDERFLOW:
                utterance.underruns += 1
            case PlaybackEventKind.DRAINED:
                self._end(report.utterance_id, report.dac_ns, np.inf)
            case PlaybackEventKind.FLUSHED:
                self._end(report.utterance_id, report.dac_ns, report.played_ms, interrupted=True)

    def _end(
        self,
        utterance_id: str,
        ended_ns: int,
        played_ms: float,
        *,
        interrupted: bool = False,
        error: str = "",
    ) -> None:
        utterance = self._utterances.pop(utterance_id, None)
        if utterance is None:
            return
        self._bus.publish(
            PlaybackEnded(
                session_id=utterance.session_id,
                utterance_id=utterance_id,
                ended_ns=ended_ns,
                played_text=self._progress.ended(utterance_id, played_ms),
                interrupted=interrupted,
                underruns=utterance.underruns,
                error=error,
            )
        )


def _job_id(utterance_id: str, job: int) -> str:
    return f"{utterance_id}/{job}"

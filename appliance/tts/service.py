"""The work of the tts process: from what is to be said to what was heard of it.

The loop's side of everything: it owns the utterances, decides whose synthesis goes on next (one
stretch at a time, so that nothing urgent waits behind anything long) and tells what the loudspeaker
did. The synthesis itself runs in a worker thread, the playback in the device's callback.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable

from appliance.audio.devices import DeviceLost
from appliance.audio.player import PlaybackEventKind
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import RingWriter
from appliance.ipc.bus import Bus
from appliance.messages import (
    Cancel,
    NearEnd,
    Pause,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    Restore,
    Speak,
)
from appliance.tts.cache import CachedEngine
from appliance.tts.duck import RAMP_DOWN_MS, RAMP_UP_MS, Duck
from appliance.tts.playback import Loudspeaker, PlaybackReport
from appliance.tts.progress import Progress
from appliance.tts.reference import FarEnd
from appliance.tts.schedule import Want, most_urgent
from appliance.tts.synthesis import Failed, Synthesiser
from appliance.tts.utterance import Utterance

logger = logging.getLogger(__name__)

TOPICS = tuple(message.topic for message in (Speak, Release, Pause, Restore, Cancel, NearEnd))
_RETRY_MS = 50
_IDLE_MS = 500
_PLAYING_CHECK_MS = 100
"""The device's blocks wake the loop while it plays; this is for a device that stops."""
_HELD_NS = 30_000_000_000
"""Nobody will release what was held for so long."""
_PAUSED_NS = 4_000_000_000
"""Longer than any doubt about an interruption lasts."""
_REMEMBERED = 64
_FADE_OUT_MS = 8.0
_PREPARE_AFTER_NS = 5_000_000_000
"""While everything starts, the processor has better things to do."""


class Service:
    """Everything that the loop of the process does; call `open`, then `step` again and again.

    Args:
        bus: with the topics in `TOPICS`.
        engine: the voice.
        loudspeaker: not yet open.
        writer: of the speaker ring.
        gain_db: level of everything.
        duck_db: added to it while someone speaks over an answer; 0 leaves the level alone.
        ahead_ms: how far synthesis runs ahead of playback.
        prepared: texts to have ready before they are asked for.
    """

    def __init__(
        self,
        bus: Bus,
        engine: CachedEngine,
        loudspeaker: Loudspeaker,
        writer: RingWriter,
        *,
        gain_db: float,
        duck_db: float,
        ahead_ms: float,
        prepared: Iterable[str] = (),
    ) -> None:
        self._bus = bus
        self._loudspeaker = loudspeaker
        self._synthesiser = Synthesiser(engine, loudspeaker.enqueue, prepared)
        self._prepare_after_ns = time.monotonic_ns() + _PREPARE_AFTER_NS
        self._gain_db, self._duck_db = gain_db, duck_db
        self._ahead_ms = ahead_ms
        self._far_end = FarEnd(writer)
        self._progress = Progress()
        self._duck = Duck()
        self._lowered = False
        """Whether the loudspeaker was told to be."""
        self._utterances: dict[str, Utterance] = {}
        """In the order in which they will be heard."""
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._released: deque[str] = deque(maxlen=_REMEMBERED)
        """Before anything of them had come."""
        self._paused: tuple[str, int] = "", 0
        """The utterance that was paused last, and when."""
        self._has_opened = False
        """Before the loudspeaker was there once, there is nowhere to put audio."""
        worker = self._synthesiser.worker
        bus.wake_on(worker.descriptor)
        bus.wake_on(loudspeaker.fileno())
        bus.busy, bus.hung = worker.busy_ms, worker.hung

    def open(self) -> None:
        """Open the loudspeaker; without one the process waits for it to appear."""
        try:
            self._loudspeaker.start()
        except (ApplianceError, OSError) as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
        else:
            self._opened()

    def step(self) -> None:
        """Take one message, or whatever else has happened."""
        if not self._loudspeaker.is_open and self._loudspeaker.reopen_if_due():
            self._opened()
        message = self._bus.receive(self._timeout_ms())
        now_ns = time.monotonic_ns()
        match message:
            case Speak():
                self._take(message, now_ns)
            case Release():
                self._release(message.utterance_id)
            case NearEnd() if self._duck_db < 0:
                self._duck.near_end(message.active, message.onset_ns, now_ns)
            case Pause(utterance_id=utterance_id) if utterance_id in self._utterances:
                self._loudspeaker.pause(utterance_id)
                self._paused = utterance_id, now_ns
            case Restore(utterance_id=utterance_id) if utterance_id in self._utterances:
                self._duck.restore()
                self._loudspeaker.resume(utterance_id)
            case Cancel(id=wanted):
                for utterance in list(self._utterances.values()):
                    if wanted in ("*", utterance.id):
                        self._cancel(utterance)
        self._set_level(now_ns)
        self._note_synthesis()
        self._forget_waiting(now_ns)
        if self._loudspeaker.is_open:
            self._note_playback()
        self._go_on()

    def _forget_waiting(self, now_ns: int) -> None:
        """Nothing is held or paused for ever."""
        for utterance in list(self._utterances.values()):
            if utterance.held and now_ns - utterance.received_ns > _HELD_NS:
                self._cancel(utterance)
        paused_id, paused_ns = self._paused
        if paused_id and now_ns - paused_ns > _PAUSED_NS:
            self._paused = "", 0
            self._loudspeaker.resume(paused_id)

    def _opened(self) -> None:
        self._has_opened = True
        self._lowered = False
        self._loudspeaker.ramp_gain(self._gain_db, 1.0)
        self._bus.ready(detail=self._loudspeaker.device.name)

    def _timeout_ms(self) -> int:
        if not self._loudspeaker.is_open:
            return _RETRY_MS
        if self._duck.deadline_ns is not None:
            left_ms = (self._duck.deadline_ns - time.monotonic_ns()) // 1_000_000
            return max(1, min(_PLAYING_CHECK_MS, left_ms))
        return _PLAYING_CHECK_MS if self._playing() else _IDLE_MS

    def _playing(self) -> Utterance | None:
        """What is heard or will be next."""
        return next((u for u in self._utterances.values() if not u.held), None)

    # --- utterances ------------------------------------------------------------------------

    def _take(self, piece: Speak, now_ns: int) -> None:
        if piece.utterance_id in self._ended:
            return
        utterance = self._utterances.get(piece.utterance_id)
        if utterance is None:
            utterance = Utterance(piece.utterance_id, piece.session_id, now_ns)
            self._utterances[piece.utterance_id] = utterance
            if not self._has_opened:
                utterance.error = "no loudspeaker"
                self._end(utterance, now_ns, 0.0)
                return
            if piece.hold and piece.utterance_id not in self._released:
                utterance.held = True
                self._loudspeaker.hold(utterance.id)
        self._synthesiser.stop_preparing()
        utterance.add(piece, self._synthesiser.language)
        self._finish_if_complete(utterance)

    def _release(self, utterance_id: str) -> None:
        utterance = self._utterances.pop(utterance_id, None)
        if utterance is None:
            self._released.append(utterance_id)
            return
        self._utterances[utterance_id] = utterance
        if utterance.held:
            utterance.held = False
            self._loudspeaker.release(utterance_id)
            self._finish_if_complete(utterance)

    def _cancel(self, utterance: Utterance) -> None:
        played_ms, _ = self._loudspeaker.progress_ms(utterance.id) if self._has_opened else (0.0, 0)
        self._synthesiser.cancel(utterance)
        self._loudspeaker.flush(utterance.id, _FADE_OUT_MS)
        if played_ms == 0:
            self._end(utterance, time.monotonic_ns(), 0.0, interrupted=True)

    def _finish_if_complete(self, utterance: Utterance) -> None:
        if utterance.tasks or not utterance.complete:
            return
        self._loudspeaker.finish(utterance.id)
        if not utterance.held and self._progress.duration_ms(utterance.id) == 0:
            self._end(utterance, time.monotonic_ns(), 0.0)

    def _end(
        self, utterance: Utterance, ended_ns: int, played_ms: float, *, interrupted: bool = False
    ) -> None:
        del self._utterances[utterance.id]
        self._ended.append(utterance.id)
        self._bus.publish(
            PlaybackEnded(
                session_id=utterance.session_id,
                utterance_id=utterance.id,
                ended_ns=ended_ns,
                played_text=self._progress.ended(utterance.id, played_ms),
                interrupted=interrupted and not utterance.error,
                underruns=utterance.underruns,
                error=utterance.error,
            )
        )

    # --- synthesis -------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Give the synthesiser the most urgent step."""
        if not self._synthesiser.is_free or not self._has_opened:
            return
        wants = [
            Want(
                utterance.id,
                utterance.held,
                begun=self._progress.duration_ms(utterance.id) > 0,
                ahead_ms=self._loudspeaker.progress_ms(utterance.id)[1],
            )
            for utterance in self._utterances.values()
            if utterance.tasks
        ]
        if utterance_id := most_urgent(wants, self._ahead_ms):
            utterance = self._utterances[utterance_id]
            self._synthesiser.step(utterance, self._progress.duration_ms(utterance_id))
        elif not self._utterances and time.monotonic_ns() > self._prepare_after_ns:
            self._synthesiser.prepare()

    def _note_synthesis(self) -> None:
        for event in self._synthesiser.events():
            utterance = self._utterances[event.utterance_id]
            if isinstance(event, Failed):
                utterance.error = event.error
                self._cancel(utterance)
                continue
            if event.duration_ms:
                utterance.synthesised_ns = utterance.synthesised_ns or event.at_ns
            self._progress.queued(utterance.id, event.duration_ms, event.words)
            if event.last:
                task = utterance.tasks.popleft()
                if task.ends_piece:
                    self._progress.piece_complete(utterance.id, task.index)
                self._finish_if_complete(utterance)

    # --- playback --------------------------------------------------------------------------

    def _set_level(self, now_ns: int) -> None:
        """Follow the reflex: at once downwards, gently back."""
        playing = self._playing() is not None
        self._duck.playing(playing, now_ns)
        self._duck.tick(now_ns)
        if self._duck.lowered == self._lowered:
            return
        self._lowered = self._duck.lowered
        gain_db = self._gain_db + (self._duck_db if self._lowered else 0.0)
        back_ms = RAMP_UP_MS if playing else 1.0
        self._loudspeaker.ramp_gain(gain_db, RAMP_DOWN_MS if self._lowered else back_ms)

    def _note_playback(self) -> None:
        try:
            reports = self._loudspeaker.reports()
        except DeviceLost as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
            return
        for utterance in self._utterances.values():
            played_ms, _ = self._loudspeaker.progress_ms(utterance.id)
            for index in self._progress.newly_played(utterance.id, played_ms):
                self._bus.publish(
                    PiecePlayed(
                        session_id=utterance.session_id, utterance_id=utterance.id, index=index
                    )
                )
        for report in reports:
            self._report(report)
        played = self._loudspeaker.played()
        if announcement := self._far_end.take(played, self._loudspeaker.rate_hz):
            self._bus.publish(announcement)
        statistics = self._loudspeaker.statistics
        self._bus.counters = {
            "device_underflows": statistics.device_underflows,
            "underruns": self._loudspeaker.underflows,
            "dropped_reference_blocks": statistics.dropped_reference_blocks,
        }

    def _report(self, report: PlaybackReport) -> None:
        utterance = self._utterances.get(report.utterance_id)
        if report.kind is PlaybackEventKind.GAIN_REACHED:
            self._report_ducked(utterance or self._playing(), report.dac_ns)
            return
        if utterance is None:
            return
        match report.kind:
            case PlaybackEventKind.STARTED:
                self._bus.publish(
                    PlaybackStarted(
                        session_id=utterance.session_id,
                        utterance_id=utterance.id,
                        received_ns=utterance.received_ns,
                        synthesised_ns=utterance.synthesised_ns,
                        audible_ns=report.dac_ns,
                    )
                )
            case PlaybackEventKind.UNDERFLOW:
                utterance.underruns += 1
            case PlaybackEventKind.DRAINED:
                self._end(utterance, report.dac_ns, math.inf)
            case PlaybackEventKind.FLUSHED:
                self._end(utterance, report.dac_ns, report.played_ms, interrupted=True)

    def _report_ducked(self, utterance: Utterance | None, audible_ns: int) -> None:
        if not self._lowered or utterance is None:
            return
        self._bus.publish(
            PlaybackDucked(
                session_id=utterance.session_id,
                utterance_id=utterance.id,
                onset_ns=self._duck.onset_ns,
                audible_ns=audible_ns,
            )
        )

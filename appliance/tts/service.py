"""The work of the tts process: from what is to be said to what was heard of it.

The loop's side of everything: it owns the utterances of all sessions, decides whose synthesis goes
on next (one stretch at a time, so that nothing urgent waits behind anything long) and tells what
the loudspeakers did. The synthesis itself runs in a worker thread, the playback in the device's
callback and, for sessions from afar, in a thread with a clock.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from appliance.audio.devices import DeviceLost
from appliance.audio.player import PlaybackEventKind
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import RingWriter
from appliance.ipc.bus import Bus
from appliance.messages import (
    Cancel,
    Floor,
    Message,
    NearEnd,
    Pause,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    Restore,
    Ringing,
    Sessions,
    Speak,
    SpeechSettings,
)
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import Audio
from appliance.tts.outlet import Outlet
from appliance.tts.outlets import Outlets
from appliance.tts.output import PlaybackReport
from appliance.tts.playback import Loudspeaker
from appliance.tts.progress import Progress
from appliance.tts.schedule import most_urgent, wants
from appliance.tts.synthesis import Failed, Synthesiser
from appliance.tts.utterance import Utterance

logger = logging.getLogger(__name__)

TOPICS = tuple(
    message.topic
    for message in (
        *(Speak, Release, Pause, Restore, Cancel),
        *(NearEnd, Ringing, SpeechSettings, Sessions, Floor),
    )
)
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
        loudspeaker: of the local session, not yet open.
        open_ring: makes the speaker ring of a session; may raise `ApplianceError`.
        gain_db: level of everything at the local loudspeaker.
        duck_db: added to it while someone speaks over an answer; 0 leaves the level alone.
        ahead_ms: how far synthesis runs ahead of playback.
        prepared: texts to have ready before they are asked for.
    """

    def __init__(
        self,
        bus: Bus,
        engine: CachedEngine,
        loudspeaker: Loudspeaker,
        open_ring: Callable[[str], RingWriter],
        *,
        gain_db: float,
        duck_db: float,
        ahead_ms: float,
        prepared: Iterable[str] = (),
    ) -> None:
        self._bus = bus
        self._loudspeaker = loudspeaker
        self._synthesiser = Synthesiser(engine, self._play, prepared)
        self._prepare_after_ns = time.monotonic_ns() + _PREPARE_AFTER_NS
        self._engaged: set[str] = set()
        """Sessions in which somebody speaks or waits for an answer: the processor is theirs."""
        self._ahead_ms = ahead_ms
        self._progress = Progress()
        self._outlets = Outlets(bus, loudspeaker, open_ring, gain_db=gain_db, duck_db=duck_db)
        self._utterances: dict[str, Utterance] = {}
        """Of each session in the order in which they will be heard."""
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._released: deque[str] = deque(maxlen=_REMEMBERED)
        """Before anything of them had come."""
        self._problem = ""
        """Of the voice, as it was told last."""
        self._paused: dict[str, int] = {}
        """When each utterance that is paused was."""
        worker = self._synthesiser.worker
        bus.wake_on(worker.descriptor)
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
        if message is not None:
            self._note_message(message, now_ns)
        for outlet in self._outlets:
            playing = self._playing(outlet.session_id) is not None
            outlet.follow(playing=playing, now_ns=now_ns)
        self._note_synthesis()
        if self._loudspeaker.is_open and self._synthesiser.problem != self._problem:
            self._tell()
        self._forget_waiting(now_ns)
        self._note_playback()
        self._go_on(now_ns)

    def close(self) -> None:
        """Close the loudspeakers and take the rings away."""
        self._outlets.close_all()

    def _note_message(self, message: Message, now_ns: int) -> None:
        match message:
            case Speak():
                self._take(message, now_ns)
            case Release():
                self._release(message.utterance_id)
            case Pause(utterance_id=utterance_id) if utterance_id in self._utterances:
                self._outlet_of(utterance_id).output.pause(utterance_id)
                self._paused[utterance_id] = now_ns
            case Restore(utterance_id=utterance_id) if utterance_id in self._utterances:
                self._outlet_of(utterance_id).restore()
                self._resume(utterance_id)
            case Cancel(session_id=session_id, id=wanted):
                for utterance in list(self._utterances.values()):
                    everything = wanted == "*" and utterance.session_id == session_id
                    if everything or wanted == utterance.id:
                        self._cancel(utterance)
            case _:
                self._note_session(message, now_ns)

    def _note_session(self, message: Message, now_ns: int) -> None:
        """Take a message that is about no utterance."""
        match message:
            case NearEnd(session_id=session_id):
                if outlet := self._outlets.find(session_id):
                    outlet.near_end(message.active, message.onset_ns, now_ns)
            case SpeechSettings():
                self._outlets.set(message)
            case Ringing(session_id=session_id, ids=ids):
                find = self._outlets.find_or_open if ids else self._outlets.find
                if outlet := find(session_id):
                    outlet.ring(ids, now_ns)
            case Floor(session_id=session_id, state="idle"):
                self._engaged.discard(session_id)
            case Floor(session_id=session_id):
                self._engaged.add(session_id)
                self._synthesiser.stop_preparing()
            case Sessions():
                for session_id in self._outlets.gone(message):
                    self._engaged.discard(session_id)
                    self._close(session_id)
                for session in message.open:  # its ring is there before its first answer
                    self._outlets.find_or_open(session.session_id)

    def _forget_waiting(self, now_ns: int) -> None:
        """Nothing is held or paused for ever."""
        for utterance in list(self._utterances.values()):
            if utterance.held and now_ns - utterance.received_ns > _HELD_NS:
                self._cancel(utterance)
        for utterance_id, paused_ns in list(self._paused.items()):
            if now_ns - paused_ns > _PAUSED_NS:
                self._resume(utterance_id)

    def _resume(self, utterance_id: str) -> None:
        self._paused.pop(utterance_id, None)
        self._outlet_of(utterance_id).output.resume(utterance_id)

    def _opened(self) -> None:
        self._outlets.local.opened()
        self._tell()

    def _tell(self) -> None:
        """With which loudspeaker, and whether with the voice that is wanted."""
        self._problem = problem = self._synthesiser.problem
        device = self._loudspeaker.device.name
        self._bus.ready("degraded" if problem else "ready", problem or device)

    def _timeout_ms(self) -> int:
        if not self._loudspeaker.is_open:
            return _RETRY_MS
        timeout_ms = _PLAYING_CHECK_MS if self._is_heard() else _IDLE_MS
        deadlines = [outlet.deadline_ns for outlet in self._outlets]
        if due_ns := min((due_ns for due_ns in deadlines if due_ns is not None), default=None):
            left_ms = (due_ns - time.monotonic_ns()) // 1_000_000
            return max(1, min(timeout_ms, left_ms))
        return timeout_ms

    def _is_heard(self) -> bool:
        return any(not utterance.held for utterance in self._utterances.values())

    def _outlet_of(self, utterance_id: str) -> Outlet:
        return self._outlets[self._utterances[utterance_id].session_id]

    def _close(self, session_id: str) -> None:
        """A remote session is over: nothing of it is said any more."""
        output = self._outlets[session_id].output
        for utterance in list(self._utterances.values()):
            if utterance.session_id == session_id:
                played_ms, _ = output.progress_ms(utterance.id)
                self._synthesiser.cancel(utterance)
                self._end(utterance, time.monotonic_ns(), played_ms, interrupted=True)
        self._outlets.close(session_id)

    def _playing(self, session_id: str) -> Utterance | None:
        """What is heard in a session or will be next."""
        for utterance in self._utterances.values():
            if utterance.session_id == session_id and not utterance.held:
                return utterance
        return None

    # --- utterances ------------------------------------------------------------------------

    def _take(self, piece: Speak, now_ns: int) -> None:
        if piece.utterance_id in self._ended:
            return
        utterance = self._utterances.get(piece.utterance_id)
        if utterance is None:
            utterance = Utterance(piece.utterance_id, piece.session_id, now_ns)
            utterance.speed = self._outlets.speed(piece.session_id)
            self._utterances[piece.utterance_id] = utterance
            outlet = self._outlets.find_or_open(piece.session_id)
            if outlet is None or not outlet.has_opened:
                utterance.error = "no loudspeaker"
                self._end(utterance, now_ns, 0.0)
                return
            if piece.hold and piece.utterance_id not in self._released:
                utterance.held = True
                outlet.output.hold(utterance.id)
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
            self._outlet_of(utterance_id).output.release(utterance_id)
            self._finish_if_complete(utterance)

    def _cancel(self, utterance: Utterance) -> None:
        output = self._outlet_of(utterance.id).output
        played_ms, _ = output.progress_ms(utterance.id)
        self._synthesiser.cancel(utterance)
        output.flush(utterance.id, _FADE_OUT_MS)
        if played_ms == 0:
            self._end(utterance, time.monotonic_ns(), 0.0, interrupted=True)

    def _finish_if_complete(self, utterance: Utterance) -> None:
        if utterance.tasks or not utterance.complete:
            return
        self._outlet_of(utterance.id).output.finish(utterance.id)
        if not utterance.held and self._progress.duration_ms(utterance.id) == 0:
            self._end(utterance, time.monotonic_ns(), 0.0)

    def _end(
        self, utterance: Utterance, ended_ns: int, played_ms: float, *, interrupted: bool = False
    ) -> None:
        del self._utterances[utterance.id]
        self._paused.pop(utterance.id, None)
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

    def _play(self, utterance_id: str, samples: Audio, rate_hz: int) -> None:
        """From the synthesiser's thread: the utterance may just have ended."""
        utterance = self._utterances.get(utterance_id)
        outlet = self._outlets.find(utterance.session_id) if utterance else None
        if outlet is not None:
            outlet.output.enqueue(utterance_id, samples, rate_hz)

    def _go_on(self, now_ns: int) -> None:
        """Give the synthesiser the most urgent step."""
        if not self._synthesiser.is_free:
            return
        states = [
            (
                utterance,
                self._progress.duration_ms(utterance.id) > 0,
                self._outlet_of(utterance.id).output.progress_ms(utterance.id)[1],
            )
            for utterance in self._utterances.values()
        ]
        if utterance_id := most_urgent(wants(states, now_ns), self._ahead_ms):
            utterance = self._utterances[utterance_id]
            utterance.served_ns = now_ns
            self._synthesiser.step(utterance, self._progress.duration_ms(utterance_id))
        elif not (self._utterances or self._engaged) and now_ns > self._prepare_after_ns:
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

    def _note_playback(self) -> None:
        for outlet in self._outlets:
            if outlet.output.is_open:
                self._note_played(outlet)
        outputs = [outlet.output for outlet in self._outlets]
        self._bus.counters = {
            "device_underflows": self._loudspeaker.statistics.device_underflows,
            "underruns": sum(output.underflows for output in outputs),
            "dropped_reference_blocks": sum(
                output.statistics.dropped_reference_blocks for output in outputs
            ),
        }

    def _note_played(self, outlet: Outlet) -> None:
        try:
            reports = outlet.output.reports()
        except DeviceLost as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
            return
        if announcement := outlet.take_played():
            self._bus.publish(announcement)
        for utterance in self._utterances.values():
            if utterance.session_id != outlet.session_id:
                continue
            played_ms, _ = outlet.output.progress_ms(utterance.id)
            for index in self._progress.newly_played(utterance.id, played_ms):
                self._bus.publish(
                    PiecePlayed(
                        session_id=utterance.session_id, utterance_id=utterance.id, index=index
                    )
                )
        for report in reports:
            self._report(report, outlet)

    def _report(self, report: PlaybackReport, outlet: Outlet) -> None:
        utterance = self._utterances.get(report.utterance_id)
        if report.kind is PlaybackEventKind.GAIN_REACHED:
            lowered = utterance or self._playing(outlet.session_id)
            if outlet.tell_lowered() and lowered is not None:
                self._bus.publish(
                    PlaybackDucked(
                        session_id=lowered.session_id,
                        utterance_id=lowered.id,
                        onset_ns=outlet.onset_ns,
                        audible_ns=report.dac_ns,
                    )
                )
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

"""The capture process: microphones and far-end reference in, the user's voice into the mic ring.

Two instances run. The one that holds the ring's writer lock captures; the other has everything
ready and waits for the lock, which the kernel hands over the moment the first one dies.
"""

from __future__ import annotations

import logging
import os
import threading
import time

import numpy as np

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES
from appliance.audio.devices import DeviceLost
from appliance.capture.chain import STAGES, FrontEnd
from appliance.capture.device import Capture, Microphone
from appliance.capture.far_end import FarEndTimeline
from appliance.capture.framer import NS_PER_SAMPLE, BlockFramer, DatedBlock
from appliance.capture.geometry import array_of, input_channels
from appliance.capture.inject import Injector
from appliance.capture.mute import MuteFile, MuteKeys
from appliance.capture.reporting import front_end_report, plain
from appliance.capture.warm_start import WarmStart, state_dir
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, SPEAKER_RING, RingReader, RingWriter, last_block
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock
from appliance.messages import (
    LOCAL_SESSION,
    Accepted,
    AudioGap,
    BlocksReady,
    Company,
    InjectAudio,
    MuteState,
    Refused,
    SetFrontEndBypass,
    SetMute,
    ring_topic,
)

logger = logging.getLogger(__name__)

TOPICS = (ring_topic(SPEAKER_RING.name), Company.topic)
_LEVEL_BLOCKS = 50
"""The level in the heartbeat is the mean of this many blocks."""
_RETRY_MS = 50
_WAKE_BLOCKS = 2
"""Blocks are announced two at a time: at 10 ms later at most, half the wake-ups of all readers."""
_LONGEST_UNREAD_NS = 100_000_000
"""While something is played its announcements wake the loop; the microphone is looked at too."""
_FAR_END_REWIND_BLOCKS = 50
_ECHO_NS = 500_000_000
_SILENCE = np.zeros(BLOCK_SAMPLES, np.float32)
_REPORT_BLOCKS = 100
_FIRST_SAVE_REPORTS, _SAVE_REPORTS = 4, 20
"""What was learnt is saved after so many seconds in which it was worth it, at first sooner."""
_WORTH_KEEPING_DB = 10.0
"""Linear echo reduction from which the filter fits the room."""


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    channels = input_channels(config)
    microphones = array_of(config.front_end).check(channels)
    microphone = Microphone(config.audio.input_device, channels=channels, wake_blocks=_WAKE_BLOCKS)
    try:
        _prepare(microphone)
        front_end = FrontEnd(config.front_end, len(microphones), models_path=config.models_path)
        if not _wait_for_lock(bus):
            return
        previous = last_block(config.shm_prefix, MIC_RING.name)
        played = last_block(config.shm_prefix, SPEAKER_RING.name)
        writer = RingWriter(config.shm_prefix, MIC_RING)
        bus.rings = {MIC_RING.name: writer.epoch}
        far_end = RingReader(config.shm_prefix, SPEAKER_RING.name)
        warm_start = WarmStart(
            state_dir(bus.runtime_dir),
            config.audio.input_device,
            channels,
            config.audio.output_device,
            config.front_end,
        )
        capture = _Capture(
            bus,
            microphone,
            writer,
            far_end=far_end,
            front_end=front_end,
            microphones=microphones,
            warm_start=warm_start,
            mute_file=MuteFile(state_dir(bus.runtime_dir)),
        )
        try:
            capture.run(
                previous.captured_ns if previous else None, played.captured_ns if played else 0
            )
        finally:
            writer.close()
            far_end.close()
            capture.close()
    finally:
        microphone.close()


def _prepare(microphone: Microphone) -> None:
    """Do ahead what can be done without opening the device."""
    try:
        microphone.prepare()
    except ApplianceError as error:
        logger.warning("%s", error)


def _wait_for_lock(bus: Bus) -> bool:
    """Stand by until this instance may write the ring; False when told to stop before."""
    lock = FileLock(bus.runtime_dir / f"{MIC_RING.name}.writer.lock")
    if lock.acquire():
        return True
    bus.ready("standby")
    acquired = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wait() -> None:
        lock.acquire(wait=True)
        os.eventfd_write(acquired, 1)

    threading.Thread(target=wait, name="writer-lock", daemon=True).start()
    bus.wake_on(acquired)
    while bus.running:
        bus.receive()
        try:
            os.eventfd_read(acquired)
        except BlockingIOError:
            continue
        bus.forget(acquired)
        os.close(acquired)
        return True
    return False


class _Capture:
    """The active instance's loop."""

    def __init__(
        self,
        bus: Bus,
        microphone: Microphone,
        writer: RingWriter,
        *,
        far_end: RingReader,
        front_end: FrontEnd,
        microphones: tuple[int, ...],
        warm_start: WarmStart,
        mute_file: MuteFile,
    ) -> None:
        self._bus = bus
        self._microphone = microphone
        self._writer = writer
        self._far_end = far_end
        self._front_end = front_end
        self._microphones = list(microphones)
        """Which of the device's channels the front-end takes, in its order."""
        self._warm_start = warm_start
        self._mute_file = mute_file
        self._mute = mute_file.load()
        self._mute_keys = MuteKeys()
        self._mute.hardware |= self._mute_keys.switched_on
        self._latency_ns = front_end.latency_samples * NS_PER_SAMPLE
        self._timeline = FarEndTimeline()
        self._anchors = 0
        self._echo_until_ns = 0
        """What was played before this life may be heard until then."""
        self._was_muted = False
        self._framer: BlockFramer | None = None
        self._next_frame = -1
        self._stretch = -1
        self._injector = Injector()
        self._heard_until_ns: int | None = None
        """Time of the last block before an interruption, until the first one after it."""
        self._gap_reason = "capture was restarted"
        self._direction_deg: float | None = None
        self._aside = False
        self._far_end_active = False
        self._last_read_ns = 0
        self._power = 0.0
        self._blocks = 0
        self._lost_ms = 0.0
        self._non_finite_samples = 0
        self._unsaved_reports = 0
        self._save_after = _FIRST_SAVE_REPORTS

    def run(self, heard_until_ns: int | None, played_until_ns: int) -> None:
        """Capture until told to stop; a lost device is taken up again.

        Args:
            heard_until_ns: time of the last block that a predecessor wrote.
            played_until_ns: time of the last block that the loudspeaker has played so far.
        """
        bus, microphone = self._bus, self._microphone
        self._heard_until_ns = heard_until_ns
        self._echo_until_ns = played_until_ns + _ECHO_NS
        if state := self._warm_start.load():
            self._front_end.restore(state)
        try:
            microphone.start()
        except (ApplianceError, OSError) as error:
            bus.ready("degraded", str(error))
            logger.error("%s", error)
        else:
            bus.ready()
        bus.wake_on(microphone.fileno())
        for descriptor in self._mute_keys.descriptors:
            bus.wake_on(descriptor)
        self._report_mute()
        while bus.running:
            if microphone.is_open:
                self._step()
            elif microphone.reopen_if_due():
                bus.ready()
            else:
                bus.receive(_RETRY_MS)
            self._take_requests()
            if self._mute_keys.descriptors:
                self._read_mute_keys()

    def close(self) -> None:
        """Keep what was learnt."""
        self._mute_keys.close()
        if self._unsaved_reports:
            self._warm_start.close()
            self._warm_start.save(self._front_end.state())
        self._warm_start.close()

    def _step(self) -> None:
        message = self._bus.receive()
        if isinstance(message, Company) and message.session_id == LOCAL_SESSION:
            only = message.engaged or bool(message.background_deg)
            self._front_end.attend(message.partner_deg, only=only)
        if isinstance(message, BlocksReady):
            self._far_end.announced(message, rewind_blocks=_FAR_END_REWIND_BLOCKS)
            if time.monotonic_ns() < self._last_read_ns + _LONGEST_UNREAD_NS:
                return
        self._last_read_ns = time.monotonic_ns()
        try:
            captures = self._microphone.read()
        except DeviceLost as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
            self._gap_reason = "the microphone was lost"
            return
        for far_block in self._far_end.read():
            self._timeline.push(far_block)
        before = self._writer.sequence
        for capture in captures:
            for block in self._frame(capture):
                self._write(block)
        if self._writer.sequence > before:
            self._announce()

    def _frame(self, capture: Capture) -> list[DatedBlock]:
        """Blocks of consecutive frames; whatever is missing between them is counted."""
        if capture.stretch != self._stretch:
            self._stretch = capture.stretch
            self._timeline.restart_microphone()
            self._framer = None
        if self._framer is None or capture.first_frame != self._next_frame:
            rate_hz, channels = self._microphone.rate_hz, len(self._microphones)
            self._framer = BlockFramer(rate_hz, channels, capture.first_frame)
        self._next_frame = capture.first_frame + len(capture.frames)
        frames = capture.frames[:, self._microphones]
        before = self._framer.non_finite_samples
        blocks = self._framer.push(frames, capture.first_sample_ns)
        self._non_finite_samples += self._framer.non_finite_samples - before
        return blocks

    def _write(self, heard: DatedBlock) -> None:
        front_end = self._front_end
        timeline = self._timeline
        far = timeline.take(heard.position, heard.first_sample_ns, front_end.drift_ppm)
        if timeline.anchors > self._anchors:
            front_end.rewrite(timeline.before)
            if self._anchors:
                front_end.doubt()
            self._anchors = timeline.anchors
        if self._mute.muted:  # nobody hears it, not even the front-end
            self._write_silence(heard)
            self._was_muted = True
            return
        if self._was_muted:
            self._was_muted = False
            front_end.doubt()
        processed = front_end.process(heard.samples, far)
        unplaced = timeline.sounds_unplaced
        if not timeline.anchors:  # nor was it announced yet
            unplaced |= heard.first_sample_ns < self._echo_until_ns
        near_end = 0.0 if unplaced else float(processed.near_end)
        captured_ns = heard.first_sample_ns - self._latency_ns
        if self._gap_reason:
            if self._heard_until_ns is not None:
                self._report_gap(captured_ns - self._heard_until_ns - BLOCK_NS)
            self._gap_reason = ""
        block = self._injector.replace(processed.samples)
        self._writer.write(block, captured_ns, near_end=near_end)
        report = self._injector.note(self._writer.epoch, self._writer.sequence)
        if report:
            self._bus.reply(*report)
        self._direction_deg = plain(processed.direction_deg)
        self._aside = processed.aside
        self._far_end_active = processed.far_end_active
        self._heard_until_ns = captured_ns
        self._blocks += 1
        self._power += float(np.dot(block, block)) / len(block)
        if self._blocks % _LEVEL_BLOCKS == 0:
            self._update_counters()
        if self._blocks % _REPORT_BLOCKS == 0:
            self._report_front_end()
            self._report_mute()

    def _write_silence(self, heard: DatedBlock) -> None:
        captured_ns = heard.first_sample_ns - self._latency_ns
        self._writer.write(_SILENCE, captured_ns, near_end=0.0)
        self._heard_until_ns, self._direction_deg, self._aside = captured_ns, None, False
        self._blocks += 1
        if self._blocks % _REPORT_BLOCKS == 0:
            self._report_mute()

    def _report_mute(self) -> None:
        mute = self._mute
        self._bus.publish(
            MuteState(session_id=LOCAL_SESSION, hardware=mute.hardware, software=mute.software)
        )

    def _read_mute_keys(self) -> None:
        events = self._mute_keys.read()
        if events:
            self._mute.take(events)
            self._mute_file.save_later(self._mute)
            self._report_mute()

    def _announce(self) -> None:
        self._bus.publish(
            BlocksReady(
                ring=MIC_RING.name,
                epoch=self._writer.epoch,
                sequence=self._writer.sequence,
                direction_deg=self._direction_deg,
                far_end_active=self._far_end_active,
                aside=self._aside,
            )
        )

    def _report_front_end(self) -> None:
        metrics = self._front_end.metrics()
        statistics = self._microphone.statistics
        timeline = self._timeline
        self._bus.publish(
            front_end_report(
                metrics,
                lead_ms=timeline.lead_ms,
                xruns=statistics.device_overflows + statistics.dropped_blocks,
                bypassed=self._front_end.bypass,
                non_finite_samples=self._non_finite_samples,
                far_end_anchors=timeline.anchors,
                far_end_late_blocks=timeline.late_blocks,
                far_end_lost_blocks=self._far_end.lost_blocks,
            )
        )
        fits = metrics.erle_linear_db is not None and metrics.erle_linear_db > _WORTH_KEEPING_DB
        if fits and metrics.locked:
            self._unsaved_reports += 1
        if self._unsaved_reports >= self._save_after and self._warm_start.save(
            self._front_end.state()
        ):
            self._unsaved_reports = 0
            self._save_after = min(2 * self._save_after, _SAVE_REPORTS)

    def _report_gap(self, lost_ns: int) -> None:
        lost_ms = max(0.0, lost_ns / 1e6)
        self._lost_ms += lost_ms
        logger.warning("%s: %.0f ms of audio lost", self._gap_reason, lost_ms)
        self._bus.publish(
            AudioGap(session_id=LOCAL_SESSION, lost_ms=lost_ms, reason=self._gap_reason)
        )

    def _update_counters(self) -> None:
        statistics = self._microphone.statistics
        mean = self._power / _LEVEL_BLOCKS
        self._power = 0.0
        self._bus.counters = {
            "level_dbfs": round(10 * float(np.log10(max(mean, 1e-12))), 1),
            "device_overflows": statistics.device_overflows,
            "dropped_blocks": statistics.dropped_blocks,
            "lost_ms": round(self._lost_ms, 1),
            "blocks": self._blocks,
            "lost_blocks": self._far_end.lost_blocks,
            "unread_blocks": self._far_end.most_unread_blocks,
        }

    def _take_requests(self) -> None:
        for client, request in self._bus.requests():
            match request:
                case SetMute(muted=muted):
                    reason = self._mute.request(muted)
                    if not reason:
                        self._mute_file.save(self._mute)  # before it is said to be done
                        self._report_mute()
                        self._bus.reply(client, Accepted())
                case InjectAudio() if self._mute.muted:
                    reason = "the microphones are muted"
                case InjectAudio() if not self._microphone.is_open:
                    reason = "the microphone is not open"
                case InjectAudio():
                    reason = self._injector.accept(client, request)
                case SetFrontEndBypass(stages=stages):
                    reason = self._bypass(stages)
                    if not reason:
                        self._bus.reply(client, Accepted())
                case _:
                    reason = "capture does not take this request"
            if reason:
                self._bus.reply(client, Refused(reason=reason))

    def _bypass(self, stages: tuple[str, ...]) -> str:
        """Switch these stages off; returns why it is refused, empty when it is not."""
        if unknown := set(stages) - set(STAGES):
            return f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}"
        self._front_end.bypass = frozenset(stages)
        logger.info("front-end without: %s", ", ".join(sorted(stages)) or "nothing, all is on")
        return ""

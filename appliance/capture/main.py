"""The capture process: microphone to mic ring.

Two instances run. The one that holds the ring's writer lock captures; the other has everything
ready and waits for the lock, which the kernel hands over the moment the first one dies.
"""

from __future__ import annotations

import logging
import os
import threading

import numpy as np

from appliance.audio.blocks import BLOCK_NS, Samples
from appliance.audio.devices import DeviceLost
from appliance.capture.device import Microphone
from appliance.capture.framer import BlockFramer
from appliance.capture.inject import Injector
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingWriter, last_block
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock
from appliance.messages import LOCAL_SESSION, AudioGap, InjectAudio, Refused

logger = logging.getLogger(__name__)

TOPICS: tuple[str, ...] = ()
_LEVEL_BLOCKS = 50
"""The level in the heartbeat is the mean of this many blocks."""
_RETRY_MS = 50
_WAKE_BLOCKS = 2
"""Blocks are announced two at a time: at 10 ms later at most, half the wake-ups of all readers."""


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    microphone = Microphone(
        config.audio.input_device,
        channels=config.audio.input_channels,
        wake_blocks=_WAKE_BLOCKS,
    )
    try:
        _prepare(microphone)
        if not _wait_for_lock(bus):
            return
        previous = last_block(config.shm_prefix, MIC_RING.name)
        writer = RingWriter(config.shm_prefix, MIC_RING)
        bus.rings = {MIC_RING.name: writer.epoch}
        try:
            _Capture(bus, microphone, writer, previous.captured_ns if previous else None).run()
        finally:
            writer.close()
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
        self, bus: Bus, microphone: Microphone, writer: RingWriter, heard_until_ns: int | None
    ) -> None:
        self._bus = bus
        self._microphone = microphone
        self._writer = writer
        self._heard_until_ns = heard_until_ns
        """Time of the last block before an interruption, until the first one after it."""
        self._gap_reason = "capture was restarted"
        self._framer: BlockFramer | None = None
        self._injector = Injector()
        self._power = 0.0
        self._blocks = 0
        self._lost_ms = 0.0

    def run(self) -> None:
        """Capture until told to stop; a lost device is taken up again."""
        bus, microphone = self._bus, self._microphone
        try:
            microphone.start()
        except (ApplianceError, OSError) as error:
            bus.ready("degraded", str(error))
            logger.error("%s", error)
        else:
            bus.ready()
        bus.wake_on(microphone.fileno())
        while bus.running:
            if microphone.is_open:
                bus.receive()
                self._read()
            elif microphone.reopen_if_due():
                self._framer = None
                bus.ready()
            else:
                bus.receive(_RETRY_MS)
            self._take_requests()

    def _read(self) -> None:
        try:
            captures = self._microphone.read()
        except DeviceLost as error:
            logger.error("%s", error)
            self._bus.ready("degraded", str(error))
            self._gap_reason = "the microphone was lost"
            return
        before = self._writer.sequence
        for capture in captures:
            if self._framer is None:
                self._framer = BlockFramer(self._microphone.rate_hz)
            for captured_ns, block in self._framer.push(capture.frames, capture.first_sample_ns):
                self._write(block, captured_ns)
        if self._writer.sequence > before:
            self._bus.publish(self._writer.announcement())

    def _write(self, block: Samples, captured_ns: int) -> None:
        if self._gap_reason:
            if self._heard_until_ns is not None:
                self._report_gap(captured_ns - self._heard_until_ns - BLOCK_NS)
            self._gap_reason = ""
        block = self._injector.replace(block)
        self._writer.write(block, captured_ns)
        report = self._injector.note(self._writer.epoch, self._writer.sequence)
        if report:
            self._bus.reply(*report)
        self._heard_until_ns = captured_ns
        self._blocks += 1
        self._power += float(np.dot(block, block)) / len(block)
        if self._blocks % _LEVEL_BLOCKS == 0:
            self._update_counters()

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
        }

    def _take_requests(self) -> None:
        for client, request in self._bus.requests():
            if not isinstance(request, InjectAudio):
                self._bus.reply(client, Refused(reason="capture does not take this request"))
            elif not self._microphone.is_open:
                self._bus.reply(client, Refused(reason="the microphone is not open"))
            elif reason := self._injector.accept(client, request):
                self._bus.reply(client, Refused(reason=reason))

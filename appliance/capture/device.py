"""The microphone: any number of channels at the device's rate, each block with its time."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyaudio

from appliance.audio.blocks import BLOCK_MS, Samples
from appliance.audio.clock import SampleClock
from appliance.audio.devices import AudioDevice
from appliance.audio.stream import DeviceStream


@dataclass(frozen=True)
class Capture:
    """Consecutive frames from the device."""

    first_sample_ns: int
    """When the first frame was at the microphone, CLOCK_MONOTONIC."""
    frames: Samples
    """Shape (n, channels), read-only, at the device's rate."""
    first_frame: int = 0
    """Index of the first frame since the microphone was made; dropped blocks are counted."""
    stretch: int = 0
    """Another number than before: the device was opened anew, or it lost nobody knows how much."""


@dataclass
class MicrophoneStatistics:
    """Counts since the microphone object was made."""

    blocks: int = 0
    device_overflows: int = 0
    """Times that the device lost audio before PortAudio could take it."""
    dropped_blocks: int = 0
    """Blocks dropped because nobody read them in time."""


class Microphone:
    """Captures through a PortAudio callback; the owner waits on `fileno` and then calls `read`.

    The callback runs in PortAudio's thread and only notes the time, queues the bytes and wakes
    the owner.

    Args:
        selector: see `appliance.audio.devices.select_device`.
        channels: number of channels wanted, the first ones of the device.
        rate_hz: device rate, or None for the best one (see `choose_rate`).
        block_ms: length of a device buffer.
        wake_blocks: buffers that are waited for before the owner is woken: each wake-up costs it,
            and whoever reads the ring, more than the audio does.
        queue_ms: audio kept when the owner does not read; the oldest is dropped beyond it.
    """

    def __init__(
        self,
        selector: str = "auto",
        channels: int = 1,
        *,
        rate_hz: int | None = None,
        block_ms: int = BLOCK_MS,
        wake_blocks: int = 1,
        queue_ms: int = 2000,
    ) -> None:
        self.statistics = MicrophoneStatistics()
        self._channels = channels
        self._wake_blocks = wake_blocks
        self._limit = max(1, queue_ms // block_ms)
        self._queue: deque[tuple[bytes, int, int, bool]] = deque()
        self._frame = 0
        self._stretch = 0
        self._clock: SampleClock | None = None
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stream = DeviceStream(
            "input",
            selector,
            channels=channels,
            rate_hz=rate_hz,
            block_ms=block_ms,
            callback=self._on_block,
        )

    @property
    def device(self) -> AudioDevice:
        """The device found by `prepare`."""
        return self._stream.device

    @property
    def rate_hz(self) -> int:
        """Rate of the frames that `read` gives, known after `prepare`."""
        return self._stream.rate_hz

    @property
    def is_open(self) -> bool:
        """Whether audio can come."""
        return self._stream.is_open

    def fileno(self) -> int:
        """A file descriptor that is readable while audio waits."""
        return self._event

    def prepare(self) -> AudioDevice:
        """Initialise PortAudio and find the device, without opening it; see `DeviceStream`."""
        return self._stream.prepare()

    def start(self) -> None:
        """Open the device; audio comes from now on.

        Raises:
            ApplianceError: there is no such device or it cannot be opened so.
        """
        self._stream.start()

    def _on_block(
        self, data: bytes | None, frames: int, times: Mapping[str, float], status: int
    ) -> None:
        now_ns = time.monotonic_ns()
        if data is None:
            return
        # What has arrived cannot have been captured later than now, whatever a sound server says.
        age_s = max(
            times["current_time"] - times["input_buffer_adc_time"], frames / self._stream.rate_hz
        )
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.statistics.dropped_blocks += 1
        lost = bool(status & pyaudio.paInputOverflow)
        self._queue.append((data, self._frame, now_ns - round(age_s * 1e9), lost))
        self._frame += frames
        if len(self._queue) >= self._wake_blocks:
            os.eventfd_write(self._event, 1)

    def read(self) -> list[Capture]:
        """Everything captured since the last call, oldest first; does not wait.

        Call it when `fileno` is readable and at least every 500 ms.

        Raises:
            DeviceLost: the device stopped delivering. What it delivered before was given by
                earlier calls; go on with `reopen_if_due`.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        captures = []
        while self._queue:
            data, frame, observed_ns, lost = self._queue.popleft()
            if self._clock is None:
                self._clock = SampleClock(self._stream.rate_hz, early_gain=0.5, late_gain=0.002)
            if lost:
                self.statistics.device_overflows += 1
                self._clock.reset()
                self._stretch += 1
            self.statistics.blocks += 1
            frames = np.frombuffer(data, np.float32).reshape(-1, self._stream.channels)
            first_sample_ns = self._clock.observe(frame, observed_ns)
            captures.append(
                Capture(first_sample_ns, frames[:, : self._channels], frame, self._stretch)
            )
        if not captures:
            self._stream.check()
        return captures

    def reopen_if_due(self) -> bool:
        """After `DeviceLost`: try to take up the device again; see `DeviceStream`."""
        if not self._stream.is_open:
            self._queue.clear()
            self._clock = None
            self._stretch += 1
        return self._stream.reopen_if_due()

    def close(self) -> None:
        """Close the device and the file descriptor. May be called twice."""
        self._stream.close()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

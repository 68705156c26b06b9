"""The local loudspeaker: an output stream that never closes."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pyaudio

from appliance.audio.blocks import BLOCK_MS
from appliance.audio.clock import SampleClock
from appliance.audio.devices import AudioDevice
from appliance.audio.player import PlaybackQueue
from appliance.audio.stream import DeviceStream
from appliance.tts.output import Output, PlaybackReport, PlayedBlock

__all__ = ["Loudspeaker", "PlaybackReport", "PlayedBlock"]

_CLOCK_GAIN = 0.02
_STEP_NS, _STEP_BLOCKS = 20_000_000, 8
"""Playback that is so far off for so many blocks has stood still unnoticed."""


class Loudspeaker(Output):
    """Plays through a PortAudio callback that stays open and plays silence between.

    Args:
        selector: see `appliance.audio.devices.select_device`.
        rate_hz: device rate, or None for the best one (see `choose_rate`).
        block_ms: length of a device buffer; three of them lie between the queue and the air.
        fade_ms: length of the fades at starts, ends and underflows.
        hidden_delay_ms: delay behind the device that PortAudio does not know of (an amplifier, a
            Bluetooth link), added to every time.
        reference: whether `played` is wanted.
    """

    def __init__(
        self,
        selector: str = "auto",
        *,
        rate_hz: int | None = None,
        block_ms: int = BLOCK_MS,
        fade_ms: float = 5.0,
        hidden_delay_ms: float = 0.0,
        reference: bool = True,
    ) -> None:
        super().__init__(fade_ms=fade_ms, reference=reference)
        self._hidden_delay_ns = round(hidden_delay_ms * 1e6)
        self._clock: SampleClock | None = None
        self._last_dac_ns = 0
        self._silence = b""
        self._stream = DeviceStream(
            "output",
            selector,
            channels=1,
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
        """The device's rate, at which the reference is given; known after `prepare`."""
        return self._stream.rate_hz

    @property
    def is_open(self) -> bool:
        """Whether something can be heard."""
        return self._stream.is_open

    def prepare(self) -> AudioDevice:
        """Initialise PortAudio and find the device, without opening it; see `DeviceStream`."""
        device = self._stream.prepare()
        if self._queue is None or self._queue.rate_hz != self._stream.rate_hz:
            self._queue = PlaybackQueue(self._stream.rate_hz, self._fade_ms)
        return device

    def start(self) -> None:
        """Open the device; from now on it plays silence or what is enqueued.

        Raises:
            ApplianceError: there is no such device or it cannot be opened so.
        """
        self.prepare()
        self._clock = SampleClock(self.rate_hz, _CLOCK_GAIN, _CLOCK_GAIN, _STEP_NS, _STEP_BLOCKS)
        self._continuous_from = self._prepared().frame
        self._stream.start()

    def reports(self) -> list[PlaybackReport]:
        """What has been heard since the last call; an event appears once its time has passed.

        Call it when `fileno` is readable and at least every 500 ms.

        Raises:
            DeviceLost: the device stopped taking audio. What waits is kept; go on with
                `reopen_if_due`.
        """
        reports = super().reports()
        if not reports:
            self._stream.check()
        return reports

    def reopen_if_due(self) -> bool:
        """After `DeviceLost`: try to take up the device again and go on; see `DeviceStream`."""
        if self._stream.is_open:
            return True
        if self._clock is not None:
            self._clock.reset()
            self._continuous_from = self._prepared().frame
        return self._stream.reopen_if_due()

    def close(self) -> None:
        """Close the device and the file descriptor. May be called twice."""
        self._stream.close()
        super().close()

    def _on_block(
        self, _data: bytes | None, frames: int, times: Mapping[str, float], status: int
    ) -> bytes:
        now_ns = time.monotonic_ns()
        queue, clock = self._queue, self._clock
        if queue is None or clock is None:
            return bytes(4 * frames * self._stream.channels)
        if status & pyaudio.paOutputUnderflow:
            self.statistics.device_underflows += 1
            clock.reset()
            self._continuous_from = queue.frame
        delay_ns = round((times["output_buffer_dac_time"] - times["current_time"]) * 1e9)
        first_frame = queue.frame
        dac_ns = clock.observe(first_frame, now_ns + delay_ns + self._hidden_delay_ns)
        block_ns = frames * 1_000_000_000 // self._stream.rate_hz
        if abs(dac_ns - self._last_dac_ns - block_ns) > _STEP_NS // 2:
            self._continuous_from = first_frame
        self._last_dac_ns = dac_ns
        block = self._next_block(frames, dac_ns, clock.time_of, now_ns)
        if block is None:
            if len(self._silence) != 4 * frames * self._stream.channels:
                self._silence = bytes(4 * frames * self._stream.channels)
            return self._silence
        return np.repeat(block, self._stream.channels).tobytes()

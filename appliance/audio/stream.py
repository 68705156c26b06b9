"""One PortAudio callback stream: opened quickly, watched, and opened again when lost."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping

import pyaudio

from appliance.audio.devices import (
    AudioDevice,
    DeviceLost,
    Direction,
    choose_rate,
    find_device,
    open_portaudio,
)
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

Callback = Callable[[bytes | None, int, Mapping[str, float], int], bytes | None]
"""(input bytes, frames, PortAudio's times in seconds, status flags) -> output bytes."""

SILENT_MS = 500
"""A stream without callbacks for so long is lost."""
_START_GRACE_NS = 1_000_000_000
_MOST_CHANNELS = 8
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0


class DeviceStream:
    """A float32 callback stream in one direction.

    `prepare` does all that can be done without touching the device's stream (for a standby that
    waits to take over), `start` the rest. PortAudio only sees a device that was plugged in later
    after all its instances in the process were terminated, so `reopen_if_due` starts from nothing.

    Args:
        direction: "input" or "output".
        selector: see `appliance.audio.devices.select_device`.
        channels: wanted; a device that cannot do so few is opened with more (see `channels`).
        rate_hz: device rate, or None for the best one.
        block_ms: frames per callback, in milliseconds.
        callback: called in PortAudio's thread once per block; must not block.
    """

    def __init__(
        self,
        direction: Direction,
        selector: str,
        *,
        channels: int,
        rate_hz: int | None,
        block_ms: int,
        callback: Callback,
    ) -> None:
        self._direction: Direction = direction
        self._selector = selector
        self._wanted_channels = channels
        self._block_ms = block_ms
        self._callback = callback
        self._portaudio: pyaudio.PyAudio | None = None
        self._stream: pyaudio.Stream | None = None
        self._last_callback_ns = 0
        self._retry_s = _FIRST_RETRY_S
        self._next_try_ns = 0
        self._device: AudioDevice | None = None
        self.channels = channels
        """Channels of the open stream, at least those wanted."""
        self.rate_hz = rate_hz or 0
        """Device rate, 0 before `prepare` if it was not given."""
        self.block_frames = 0

    @property
    def device(self) -> AudioDevice:
        """The device found by `prepare`."""
        if self._device is None:
            raise RuntimeError("prepare() was not called")
        return self._device

    @property
    def is_open(self) -> bool:
        """Whether the stream was started and neither closed nor found lost."""
        return self._stream is not None

    def prepare(self) -> AudioDevice:
        """Initialise PortAudio and find the device.

        Raises:
            ApplianceError: there is no such device.
        """
        if self._portaudio is None:
            self._portaudio = open_portaudio()
            try:
                self._device = self._find(self._portaudio)
            except BaseException:
                self.close()
                raise
        return self.device

    def _find(self, portaudio: pyaudio.PyAudio) -> AudioDevice:
        device = find_device(portaudio, self._selector, self._direction, self._wanted_channels)
        if not self.rate_hz:  # after a reopening it stays what it was
            self.rate_hz = choose_rate(portaudio, device, self._direction, self._wanted_channels)
        self.block_frames = self.rate_hz * self._block_ms // 1000
        return device

    def start(self) -> None:
        """Open the stream and start it; `prepare` first if that was not done.

        Raises:
            ApplianceError: the device cannot be opened so; the message says why.
        """
        device = self.prepare()
        error: OSError | None = None
        for channels in self._possible_channels(device):
            try:
                self._open(device, channels)
            except OSError as failure:
                error = error or failure
            else:
                return
        self.close()
        raise ApplianceError(
            f"The audio {self._direction} device {device.name!r} cannot be opened with "
            f"{self._wanted_channels} channel(s) at {self.rate_hz} Hz ({_reason(error)}). "
            "Close the program that uses it, or set another device, rate or channel count."
        ) from error

    def _possible_channels(self, device: AudioDevice) -> list[int]:
        """The wanted number, then what hardware without it usually has."""
        most = device.channels(self._direction)
        alternatives = {2, most} if most <= _MOST_CHANNELS else {2}
        return [
            self._wanted_channels,
            *sorted(alternatives - set(range(self._wanted_channels + 1))),
        ]

    def _open(self, device: AudioDevice, channels: int) -> None:
        if self._portaudio is None:
            raise RuntimeError("prepare() was not called")
        self.channels = channels
        self._last_callback_ns = time.monotonic_ns() + _START_GRACE_NS
        self._stream = self._portaudio.open(
            rate=self.rate_hz,
            channels=channels,
            format=pyaudio.paFloat32,
            frames_per_buffer=self.block_frames,
            stream_callback=self._on_block,
            **{self._direction: True, f"{self._direction}_device_index": device.index},
        )

    def _on_block(
        self, data: bytes | None, frames: int, times: Mapping[str, float], status: int
    ) -> tuple[bytes | None, int]:
        self._last_callback_ns = time.monotonic_ns()
        return self._callback(data, frames, times, status), pyaudio.paContinue

    def check(self) -> None:
        """Cheap unless the stream is silent.

        Raises:
            DeviceLost: no callback for 500 ms, or PortAudio has stopped the stream. The stream
                is closed then; call `reopen_if_due` from time to time.
        """
        if self._stream is None:
            raise DeviceLost(f"The audio {self._direction} {self._selector!r} is not open.")
        silent_ms = (time.monotonic_ns() - self._last_callback_ns) / 1e6
        if silent_ms < SILENT_MS / 4:
            return
        try:
            active = self._stream.is_active()
        except OSError:
            active = False
        if active and silent_ms < SILENT_MS:
            return
        name = self.device.name
        self.close()
        self._retry_s, self._next_try_ns = _FIRST_RETRY_S, time.monotonic_ns()
        raise DeviceLost(
            f"The audio {self._direction} device {name!r} stopped delivering "
            f"(nothing for {silent_ms:.0f} ms). Check its plug; it is taken up again by itself."
        )

    def reopen_if_due(self) -> bool:
        """Try once to find and open the device again, unless the last try was too recent.

        Tries are 0.1 s apart at first, later 2 s.

        Returns:
            Whether the stream is open now.
        """
        if self._stream is not None:
            return True
        if time.monotonic_ns() < self._next_try_ns:
            return False
        self.close()
        try:
            self.start()
        except (ApplianceError, OSError) as error:
            self.close()
            log.debug("audio %s not back: %s", self._direction, error)
            self._next_try_ns = time.monotonic_ns() + round(self._retry_s * 1e9)
            self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)
            return False
        self._retry_s = _FIRST_RETRY_S
        log.info("audio %s device %r opened again", self._direction, self.device.name)
        return True

    def close(self) -> None:
        """Stop the stream and terminate PortAudio. May be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.stop_stream()  # close() alone drops what the device still holds
            with contextlib.suppress(OSError):
                stream.close()
        portaudio, self._portaudio = self._portaudio, None
        if portaudio is not None:
            portaudio.terminate()


def _reason(error: OSError | None) -> str:
    if error is None:
        return "no channels"
    return str(error.args[-1] if error.args and isinstance(error.args[-1], str) else error)

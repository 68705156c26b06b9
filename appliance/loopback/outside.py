"""The world outside the appliance: hears the virtual loudspeaker, speaks into the microphone.

Audio passes through `parec` and `pacat` rather than PortAudio, so that the measuring side shares
no code with what it measures. Both virtual devices run on CLOCK_MONOTONIC itself, without drift, so
the time of every recorded sample follows from the earliest arrival of all: samples cannot arrive
before they exist, and the recording has no holes.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import soxr
from scipy.signal import correlate

from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError
from appliance.loopback.virtual_devices import CHANNEL_MAPS, LOUDSPEAKER_SINK, MICROPHONE_SINK

_READ_BYTES = 1 << 16
_FIRST_AUDIO_TIMEOUT_S = 5.0
LATENCY_MS = 5
"""Smallest latency that any client asks for. A null sink renders so far ahead of its own clock: its
monitor delivers a sample this much before the moment at which the sink plays it."""
PLAY_LATENCY_MS = 120
"""Buffer of what the room plays into the microphone; less starves on an overloaded machine."""
_PATIENT_LATENCY_MS = 200
_EXACT = 0.999
_SETTLE_S = 0.1


def pulse_client(
    program: str, device: str, rate_hz: int, channels: int, latency_ms: int = LATENCY_MS
) -> list[str]:
    """The command line of `parec` or `pacat` for raw float32 audio on a pipe."""
    return [
        program,
        "--raw",
        f"--device={device}",
        "--format=float32le",
        f"--rate={rate_hz}",
        f"--channels={channels}",
        f"--channel-map={CHANNEL_MAPS[channels]}",
        f"--latency-msec={latency_ms}",
        "--process-time-msec=1",
    ]


class Recorder:
    """Records one virtual device from outside, with the time of every sample.

    Args:
        environment: `VirtualDevices.environment`.
        sink: LOUDSPEAKER_SINK (what the appliance plays) or MICROPHONE_SINK (what it hears).
        rate_hz: rate to record at; the device's own avoids resampling.
        channels: number of channels.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        sink: str = LOUDSPEAKER_SINK,
        rate_hz: int = 48_000,
        channels: int = 1,
    ) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        # What the microphone hears is there when the monitor delivers it.
        self._lead_ns = LATENCY_MS * 1_000_000 if sink == LOUDSPEAKER_SINK else 0
        self._command = pulse_client("parec", f"{sink}.monitor", rate_hz, channels)
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._grown = threading.Condition()
        self._pieces: list[bytes] = []
        self._frames = 0
        self._first_ns: int | None = None

    def __enter__(self) -> Recorder:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._thread = threading.Thread(target=self._pump, name="recorder", daemon=True)
        self._thread.start()
        if not self.wait_frames(1, _FIRST_AUDIO_TIMEOUT_S):
            self.__exit__(None, None, None)
            raise ApplianceError("Nothing can be recorded from the loopback; is it running?")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            if self._process.stdout is not None and self._thread is not None:
                self._thread.join()
                self._process.stdout.close()

    def _pump(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        descriptor = self._process.stdout.fileno()
        frame_bytes = 4 * self.channels
        rest = b""
        while data := os.read(descriptor, _READ_BYTES):
            now_ns = time.monotonic_ns()
            data = rest + data
            whole = len(data) // frame_bytes * frame_bytes
            rest = data[whole:]
            with self._grown:
                self._pieces.append(data[:whole])
                self._frames += whole // frame_bytes
                first_ns = now_ns - self._frames * 1_000_000_000 // self.rate_hz
                self._first_ns = min(first_ns, self._first_ns or first_ns)
                self._grown.notify_all()

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return self._frames

    @property
    def held_frames(self) -> int:
        """Frames recorded and not taken."""
        with self._grown:
            return sum(map(len, self._pieces)) // (4 * self.channels)

    @property
    def first_sample_ns(self) -> int:
        """When the first frame was played, CLOCK_MONOTONIC; gets better with time."""
        if self._first_ns is None:
            raise RuntimeError("nothing was recorded yet")
        return self._first_ns + self._lead_ns

    def samples(self) -> Samples:
        """Everything recorded and not taken, of shape (n,) for one channel or (n, channels)."""
        with self._grown:
            pieces = list(self._pieces)
        return self._joined(pieces)

    def _joined(self, pieces: list[bytes]) -> Samples:
        frames: Samples = np.frombuffer(b"".join(pieces), np.float32)
        return frames if self.channels == 1 else frames.reshape(-1, self.channels)

    def wait_frames(self, frames: int, timeout_s: float) -> bool:
        """Wait until so many frames are recorded; False when that took too long."""
        with self._grown:
            return self._grown.wait_for(lambda: self._frames >= frames, timeout_s)

    def time_of(self, frame: int) -> int:
        """When a frame was played, CLOCK_MONOTONIC nanoseconds, good to 1 ms on a calm machine."""
        return self.first_sample_ns + frame * 1_000_000_000 // self.rate_hz

    def take(self) -> tuple[int, Samples]:
        """Hand over the audio held so far and forget it: (first frame, samples)."""
        with self._grown:
            pieces, self._pieces = self._pieces, []
            frames = self._frames
        taken = self._joined(pieces)
        return frames - len(taken), taken


def find_in(recording: Samples, wanted: Samples) -> tuple[int, float]:
    """Where `wanted` (n,) lies in a mono recording.

    Returns:
        The frame at which it starts and the normalised correlation there (1 is exact).
    """
    recording, wanted = recording.astype(np.float64), wanted.astype(np.float64)
    score = correlate(recording, wanted, mode="valid", method="fft")
    energy = np.cumsum(np.concatenate([[0.0], recording**2]))
    norm = np.sqrt(np.maximum(energy[len(wanted) :] - energy[: -len(wanted)], 1e-12))
    score = score / (norm * (np.linalg.norm(wanted) + 1e-12))
    frame = int(np.argmax(score))
    return frame, float(score[frame])


@dataclass(frozen=True)
class Heard:
    """When something was at a virtual device, CLOCK_MONOTONIC nanoseconds."""

    start_ns: int
    """Its first sample."""
    end_ns: int
    """The moment after its last sample."""


def play_into_microphone(
    environment: Mapping[str, str],
    samples: Samples,
    rate_hz: int,
    at_ns: int | None = None,
    device_rate_hz: int = 48_000,
) -> Heard:
    """Play mono audio into the virtual microphone and wait until it was heard there.

    Args:
        environment: `VirtualDevices.environment`.
        samples: shape (n,); must not be silent.
        rate_hz: their rate.
        at_ns: when to start, about (the real moment is what is returned); None is now.
        device_rate_hz: the rate of the virtual microphone.

    Returns:
        When it was at the microphone, as recorded there.

    Raises:
        ApplianceError: it did not arrive, or with holes in it.
    """
    audio = (
        soxr.resample(samples, rate_hz, device_rate_hz) if rate_hz != device_rate_hz else samples
    )
    player = subprocess.Popen(
        pulse_client("pacat", MICROPHONE_SINK, device_rate_hz, 1, _PATIENT_LATENCY_MS),
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with player, Recorder(environment, MICROPHONE_SINK, device_rate_hz) as recorder:
        if at_ns is not None:
            time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))
        player.communicate(np.asarray(audio, np.float32).tobytes())  # returns when drained
        recorder.wait_frames(
            recorder.frames + round(_SETTLE_S * device_rate_hz), 1 + _FIRST_AUDIO_TIMEOUT_S
        )
        frame, correlation = find_in(recorder.samples(), audio)
        if correlation < _EXACT:
            raise ApplianceError(
                f"The loopback did not carry the audio intact (correlation {correlation:.3f}); "
                "is the machine overloaded?"
            )
        return Heard(recorder.time_of(frame), recorder.time_of(frame + len(audio)))

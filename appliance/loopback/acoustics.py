"""What a room does to sound, as impulse responses and their convolution. Pure, no devices.

Later impairments of the path between loudspeaker and microphone (clock drift, a loudspeaker that
distorts) belong in `Acoustics` too, before the echo's convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError

_SPEECH_BELOW_PEAK_DB = 40.0


def speech_bounds(samples: Samples, rate_hz: int) -> tuple[int, int]:
    """Where speech begins and ends in a recording (n,), to 10 ms: (first, last + 1) samples.

    Speech is what lies within 40 dB of the loudest 10 ms.
    """
    frame = max(1, rate_hz // 100)
    whole = len(samples) // frame * frame
    level = np.square(samples[:whole].reshape(-1, frame)).mean(axis=1)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (-_SPEECH_BELOW_PEAK_DB / 10))
    if not len(loud):
        return 0, len(samples)
    return int(loud[0]) * frame, (int(loud[-1]) + 1) * frame


class Convolver:
    """Convolves a mono stream with an impulse response per microphone, block by block.

    Uniformly partitioned overlap-save: no latency beyond the block, cost linear in the response.

    Args:
        response: shape (taps, channels).
        block: samples per block.
    """

    def __init__(self, response: Samples, block: int) -> None:
        taps, channels = response.shape
        parts = -(-taps // block)
        padded = np.zeros((parts * block, channels), np.float32)
        padded[:taps] = response
        self._block = block
        self._spectra: NDArray[np.complex128] = np.fft.rfft(
            padded.reshape(parts, block, channels), 2 * block, axis=1
        )
        self._history: NDArray[np.complex128] = np.zeros((parts, block + 1, 1), np.complex128)
        self._window = np.zeros(2 * block, np.float32)

    def process(self, samples: Samples) -> Samples:
        """One block (block,) in, one block (block, channels) out."""
        self._window = np.concatenate([self._window[self._block :], samples])
        self._history = np.roll(self._history, 1, axis=0)
        self._history[0, :, 0] = np.fft.rfft(self._window)
        spectrum = np.einsum("pfo,pfc->fc", self._history, self._spectra)
        tail = np.fft.irfft(spectrum, axis=0)[self._block :]
        return tail.astype(np.float32)


@dataclass(frozen=True)
class Acoustics:
    """The paths of one room, at `rate_hz`.

    Args:
        rate_hz: rate of the responses.
        near: response from the speaking person to each microphone, shape (taps, channels); its
            first channel's highest peak is the direct path.
        echo: response from the loudspeaker to each microphone, likewise; None for no echo.
        noise_dbfs: level (RMS) of stationary noise at each microphone, None for none.
    """

    rate_hz: int
    near: Samples
    echo: Samples | None = None
    noise_dbfs: float | None = None

    def __post_init__(self) -> None:
        if self.echo is not None and self.echo.shape[1] != self.channels:
            raise ValueError("echo and near-end responses are for different microphones")

    @property
    def channels(self) -> int:
        """Number of microphones."""
        return int(self.near.shape[1])

    @property
    def direct_path(self) -> int:
        """Samples from the person's mouth to the first microphone."""
        return int(np.argmax(np.abs(self.near[:, 0])))

    def near_end(self, speech: Samples) -> Samples:
        """Mono speech (n,) as it arrives at the microphones, shape (n + taps - 1, channels)."""
        arrived: Samples = fftconvolve(speech[:, None], self.near, axes=0)
        return arrived.astype(np.float32)

    def noise(self, seconds: float, seed: int) -> Samples | None:
        """White noise of shape (n, channels), independent in each microphone."""
        if self.noise_dbfs is None:
            return None
        shape = (round(seconds * self.rate_hz), self.channels)
        unit = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        unit *= 10 ** (self.noise_dbfs / 20)
        return unit


def anechoic(
    rate_hz: int,
    channels: int = 1,
    *,
    echo_db: float | None = None,
    echo_delay_ms: float = 5.0,
    noise_dbfs: float | None = None,
) -> Acoustics:
    """A room without reflections; the echo, if any, is the loudspeaker delayed and scaled."""
    near = np.ones((1, channels), np.float32)
    echo = None
    if echo_db is not None:
        echo = np.zeros((round(echo_delay_ms * rate_hz / 1000) + 1, channels), np.float32)
        echo[-1] = 10 ** (echo_db / 20)
    return Acoustics(rate_hz, near, echo, noise_dbfs)


def shoebox(
    rate_hz: int,
    channels: int = 1,
    *,
    rt60_s: float = 0.3,
    echo_db: float | None = None,
    noise_dbfs: float | None = None,
    distance_m: float = 2.0,
) -> Acoustics:
    """A simulated living room of 5 × 4 × 2.7 m (image method).

    The microphones lie on a circle of 32 mm radius, the loudspeaker 15 cm beside them, the person
    `distance_m` away. The near-end response is scaled to unit energy, so that speech keeps its
    level; the echo's energy is `echo_db` relative to that.

    Raises:
        ApplianceError: pyroomacoustics is not installed (it comes with the development tools).
    """
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise ApplianceError(
            "Simulated rooms need pyroomacoustics: install the development dependencies."
        ) from error
    size = (5.0, 4.0, 2.7)
    centre = np.array([2.0, 1.5, 0.9])
    absorption, order = pra.inverse_sabine(rt60_s, size)
    room = pra.ShoeBox(size, fs=rate_hz, materials=pra.Material(absorption), max_order=order)
    angles = 2 * np.pi * np.arange(channels) / channels
    ring = 0.032 * np.stack([np.cos(angles), np.sin(angles), np.zeros(channels)])
    room.add_microphone_array(centre[:, None] + (ring if channels > 1 else 0))
    room.add_source(centre + np.array([0.8, 0.6, 0.0]) * distance_m + np.array([0.0, 0.0, 0.3]))
    room.add_source(centre + np.array([-0.15, 0.0, 0.0]))
    room.compute_rir()

    def response(source: int, energy_db: float) -> Samples:
        raw = [room.rir[microphone][source] for microphone in range(channels)]
        padded = np.zeros((max(map(len, raw)), channels))
        for channel, taps in enumerate(raw):
            padded[: len(taps), channel] = taps
        padded *= 10 ** (energy_db / 20) / np.linalg.norm(padded[:, 0])
        return padded.astype(np.float32)

    echo = None if echo_db is None else response(1, echo_db)
    return Acoustics(rate_hz, response(0, 0.0), echo, noise_dbfs)

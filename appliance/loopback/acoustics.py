"""What a room does to sound, as impulse responses and their convolution. Pure, no devices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError

Point = tuple[float, float, float]
"""Metres."""

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


@dataclass(frozen=True)
class Room:
    """A rectangular room without furniture, and where its microphones are.

    Args:
        size_m: length, width, height.
        rt60_s: reverberation time that sets the walls' absorption by Sabine's formula. What the
            image method then gives decays more slowly: T60 is 0.35 s for 0.3, 0.79 s for 0.6.
        microphones: position of each, metres.
        rate_hz: of the responses.
    """

    size_m: Point
    rt60_s: float
    microphones: tuple[Point, ...]
    rate_hz: int

    def response(self, source: Point) -> Samples:
        """From a source to every microphone, shape (taps, microphones), remembered.

        A constant delay of 40 samples comes from the simulation's filters.

        Raises:
            ApplianceError: pyroomacoustics is not installed (it comes with the development tools).
        """
        return _image_method(self, source)


@lru_cache(maxsize=64)
def _image_method(room: Room, source: Point) -> Samples:
    """Allen and Berkley (1979), every image that arrives within the reverberation time."""
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise ApplianceError(
            "Simulated rooms need pyroomacoustics: install the development dependencies."
        ) from error
    absorption, order = pra.inverse_sabine(room.rt60_s, room.size_m)
    shoe = pra.ShoeBox(
        room.size_m, fs=room.rate_hz, materials=pra.Material(absorption), max_order=order
    )
    shoe.add_microphone_array(np.array(room.microphones).T)
    shoe.add_source(source)
    shoe.compute_rir()
    responses = [microphone[0] for microphone in shoe.rir]
    result = np.zeros((max(map(len, responses)), len(responses)), np.float32)
    for channel, taps in enumerate(responses):
        result[: len(taps), channel] = taps
    result.flags.writeable = False
    return result


def circle(
    channels: int, *, centre: Point, radius_m: float = 0.032, turned_deg: float = 0.0
) -> tuple[Point, ...]:
    """Microphones on a horizontal circle, the first at `turned_deg`; a single one at its centre."""
    angles = np.deg2rad(turned_deg) + 2 * np.pi * np.arange(channels) / channels
    radius_m = radius_m if channels > 1 else 0.0
    x, y, z = centre
    return tuple(
        (x + radius_m * float(np.cos(angle)), y + radius_m * float(np.sin(angle)), z)
        for angle in angles
    )


def shoebox(
    rate_hz: int,
    channels: int = 1,
    *,
    rt60_s: float = 0.3,
    echo_db: float | None = None,
    noise_dbfs: float | None = None,
    distance_m: float = 2.0,
    bearing_deg: float = math.degrees(math.atan2(0.6, 0.8)),
) -> Acoustics:
    """A simulated living room of 5 × 4 × 2.7 m (image method).

    The microphones lie on a circle of 32 mm radius, the loudspeaker 15 cm beside them, the person
    `distance_m` away at `bearing_deg`, counterclockwise from the room's length. The near-end
    response is scaled to unit energy, so that speech keeps its level; the echo's energy is
    `echo_db` relative to that.

    Raises:
        ApplianceError: pyroomacoustics is not installed (it comes with the development tools).
    """
    centre = (2.0, 1.5, 0.9)
    room = Room((5.0, 4.0, 2.7), rt60_s, circle(channels, centre=centre), rate_hz)
    bearing = math.radians(bearing_deg)
    person = (
        centre[0] + distance_m * math.cos(bearing),
        centre[1] + distance_m * math.sin(bearing),
        centre[2] + 0.3,
    )
    loudspeaker = (centre[0] - 0.15, centre[1], centre[2])

    def scaled(source: Point, energy_db: float) -> Samples:
        response = room.response(source)
        gain = 10 ** (energy_db / 20) / float(np.linalg.norm(response[:, 0]))
        return np.asarray(response * gain, np.float32)

    echo = None if echo_db is None else scaled(loudspeaker, echo_db)
    return Acoustics(rate_hz, scaled(person, 0.0), echo, noise_dbfs)

"""Simulated scenes for the audio front-end: a user, a loudspeaker and noise in a room.

Every scene keeps its components, so that what a processor does to each can be measured. The
same seed gives the same room, people and words whatever the other settings are, so that settings
are compared on the same scene. Seeds from 1000 on are held out: other people, other sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import fftconvolve

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.bench.metrics import active_rms, si_sdr_db
from appliance.bench.recordings import Recording
from appliance.bench.talkers import Talker, appliance_voice, other_people, people
from appliance.loopback.acoustics import Point, Room, circle

SegmentKind = Literal["far-only", "double-talk", "near-only", "quiet"]
Script = Sequence[tuple[SegmentKind, float]]

LEAD_IN_S = 0.5
"""Quiet before the script begins; the far-end may start so much ahead of its echo."""
DEFAULT_SCRIPT: Script = (("far-only", 5.0), ("double-talk", 6.0), ("near-only", 4.0))
SPEED_OF_SOUND_M_S = 343.0

_NEAR_DBFS = -36.0
_FAR_DBFS = -20.0
_FAR_PEAK = 0.9
_SENSOR_NOISE_DBFS = -80.0
_DISTORTION_DB = -25.0
"""What the loudspeaker adds, relative to what it should play."""
_DIRECT_PATH_MS = 4.0
_WALL_MARGIN_M = 0.3
_SMALLEST_ANGLE_DEG = 45.0


@dataclass(frozen=True)
class Segment:
    """What happens from sample `start` to `stop`, at the microphones."""

    kind: SegmentKind
    start: int
    stop: int


@dataclass(frozen=True)
class Utterance:
    """What the user says from sample `start` to `stop` of `Scene.near_dry`; text "" if unknown."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, eq=False)
class Scene:
    """16 kHz, float32. `mic` is the sum of near, echo, noise and interferer, each (channels, n)."""

    seed: int
    mic: Samples
    far: Samples
    """(n,) as sent to the loudspeaker, before its distortion; sample k by the playback's clock."""
    far_aligned: Samples
    """(n,) `far` on the microphones' clock, late by the delay: what an ideal aligner gives."""
    near: Samples
    near_direct: Samples
    """Direct path and 4 ms after it."""
    near_dry: Samples
    """(n,) at the mouth, at the level of `near`."""
    echo: Samples
    noise: Samples
    interferer: Samples
    positions_m: NDArray[np.float64]
    """(channels, 3) about the array's centre; x points to 0 degrees."""
    near_direction_deg: float
    """Azimuth in the array's coordinates, counter-clockwise, 0 to 360."""
    interferer_direction_deg: float
    loudspeaker_direction_deg: float
    near_talker: str
    far_talker: str
    segments: tuple[Segment, ...]
    utterances: tuple[Utterance, ...]

    def of_kind(self, kind: SegmentKind) -> tuple[Segment, ...]:
        """Its segments of one kind."""
        return tuple(segment for segment in self.segments if segment.kind == kind)

    def mask(self, kind: SegmentKind) -> NDArray[np.bool_]:
        """(n,) true in its segments of one kind."""
        result = np.zeros(self.mic.shape[1], bool)
        for segment in self.of_kind(kind):
            result[segment.start : segment.stop] = True
        return result


@dataclass(frozen=True)
class _Places:
    """Where everything is."""

    room: Room
    centre: Point
    turned_deg: float
    user: Point
    interferer: Point
    loudspeaker: Point

    def direction_deg(self, place: Point) -> float:
        """Azimuth as the array sees it."""
        angle = np.arctan2(place[1] - self.centre[1], place[0] - self.centre[0])
        return float((np.rad2deg(angle) - self.turned_deg) % 360)


def make_scene(
    seed: int,
    *,
    take: int = 0,
    script: Script = DEFAULT_SCRIPT,
    rt60_s: float = 0.3,
    channels: int = 4,
    echo_db: float | None = 15.0,
    noise_snr_db: float | None = None,
    interferer_db: float | None = None,
    drift_ppm: float = 0.0,
    delay_ms: float = 0.0,
    distortion: bool = True,
    distance_m: float = 2.0,
    loudspeaker_m: float = 0.15,
    english: bool = False,
) -> Scene:
    """Simulate a scene.

    Args:
        seed: of the room, the places and the people; from 1000 on held out.
        take: of what is said and the noise, in the same room by the same people.
        script: what happens, one after the other, in seconds; begins after `LEAD_IN_S`.
        rt60_s: see `Room`.
        channels: microphones on a circle of 32 mm radius.
        echo_db: active level of the echo above that of the user at microphone 0; None for none.
        noise_snr_db: user's active level above the RMS of pink, spherically isotropic noise. A
            sensor noise of -80 dBFS is always there.
        interferer_db: active level of another person, who talks throughout, relative to the user.
        drift_ppm: how much faster the playback's clock runs than the microphones'.
        delay_ms: by which the echo lies further behind `far`; up to 500.
        distortion: the loudspeaker clips softly.
        distance_m: user and interferer from the array.
        loudspeaker_m: loudspeaker from the array.
        english: the user is somebody whose words are known.

    Raises:
        ApplianceError: recordings or development tools are missing; the message says which.
    """
    if not 0 <= delay_ms <= 1000 * LEAD_IN_S:
        raise ValueError(f"the delay must lie between 0 and {1000 * LEAD_IN_S:g} ms: {delay_ms}")
    places = _places(seed, rt60_s, channels, distance_m, loudspeaker_m)
    say, hiss = (np.random.default_rng([seed, take, purpose]) for purpose in (1, 2))
    user, far_talker, other = _cast(seed, english=english)
    segments = _segments(script)
    n = segments[-1].stop if segments else round(LEAD_IN_S * RATE_HZ)

    near_dry, utterances = _speak(user, n, _merged(segments, ("double-talk", "near-only")), say)
    heard, _ = _speak(far_talker, n, _merged(segments, ("far-only", "double-talk")), say, cut=True)
    talk, _ = _speak(other, n, [(round(LEAD_IN_S * RATE_HZ), n)], say, cut=True)

    response = places.room.response(places.user)
    near = _convolve(near_dry, response, n)
    gain = _gain(near, _NEAR_DBFS)
    direct = int(np.argmax(np.abs(response[:, 0]))) + round(_DIRECT_PATH_MS * RATE_HZ / 1000)

    delay = round(delay_ms * RATE_HZ / 1000)
    far = np.concatenate([heard[delay:], np.zeros(delay, np.float32)])
    far *= min(_gain(far, _FAR_DBFS), _FAR_PEAK / max(float(np.abs(far).max()), 1e-9))
    echo = np.zeros_like(near)
    if echo_db is not None:
        sound = _arriving(_soft_clip(far) if distortion else far, drift_ppm, delay)
        echo = _convolve(sound, places.room.response(places.loudspeaker), n)
        echo *= _gain(echo, _NEAR_DBFS + echo_db)
    interferer = np.zeros_like(near)
    if interferer_db is not None:
        interferer = _convolve(talk, places.room.response(places.interferer), n)
        interferer *= _gain(interferer, _NEAR_DBFS + interferer_db)

    positions = _positions(places)
    noise = hiss.standard_normal((channels, n), dtype=np.float32) * _ratio(_SENSOR_NOISE_DBFS)
    if noise_snr_db is not None:
        noise += isotropic_noise(hiss, n, positions) * _ratio(_NEAR_DBFS - noise_snr_db)
    near *= gain
    return Scene(
        seed=seed,
        mic=near + echo + noise + interferer,
        far=far,
        far_aligned=_arriving(far, drift_ppm, delay),
        near=near,
        near_direct=_convolve(near_dry, response[:direct], n) * gain,
        near_dry=near_dry * _gain(near_dry, _NEAR_DBFS),
        echo=echo,
        noise=noise,
        interferer=interferer,
        positions_m=positions,
        near_direction_deg=places.direction_deg(places.user),
        interferer_direction_deg=places.direction_deg(places.interferer),
        loudspeaker_direction_deg=places.direction_deg(places.loudspeaker),
        near_talker=user.name,
        far_talker=far_talker.name,
        segments=segments,
        utterances=utterances,
    )


def isotropic_noise(rng: np.random.Generator, n: int, positions_m: NDArray[np.float64]) -> Samples:
    """Pink noise from all directions, as at these positions (channels, 3): (channels, n), RMS 1.

    Gaussian, with the exact coherence of a spherically isotropic field, sin(kd) / kd, by Cholesky
    factors of its spectral covariance (Habets and Gannot, 2007).
    """
    length = scipy.fft.next_fast_len(n, real=True)
    frequency_hz = scipy.fft.rfftfreq(length, 1 / RATE_HZ)
    distance_m = np.linalg.norm(positions_m[:, None] - positions_m[None], axis=-1)
    coherence = np.sinc(2 * frequency_hz[:, None, None] * distance_m / SPEED_OF_SOUND_M_S)
    coherence += 1e-6 * np.eye(len(positions_m))
    white = rng.standard_normal((2, len(frequency_hz), len(positions_m), 1))
    spectrum = (np.linalg.cholesky(coherence) @ (white[0] + 1j * white[1]))[..., 0].T
    spectrum /= np.sqrt(np.maximum(frequency_hz, 50.0))
    noise = scipy.fft.irfft(spectrum, length)[:, :n]
    noise /= np.sqrt(np.mean(np.square(noise)))
    return np.asarray(noise, np.float32)


@lru_cache(maxsize=64)
def _places(
    seed: int, rt60_s: float, channels: int, distance_m: float, loudspeaker_m: float
) -> _Places:
    """Draw a room of about 5 × 4 × 2.7 m with everything at least 0.3 m from its walls."""
    rng = np.random.default_rng([seed, 0])
    size = np.array([5.0, 4.0, 2.7]) * rng.uniform(0.85, 1.2, 3)
    while True:
        centre = np.append(rng.uniform(0.2, 0.8, 2) * size[:2], rng.uniform(0.7, 1.1))
        angles = rng.uniform(0, 2 * np.pi, 4)  # user, interferer, loudspeaker, array
        apart_deg = abs((np.rad2deg(angles[0] - angles[1]) + 180) % 360 - 180)
        heights = rng.uniform(0.1, 0.6, 2)
        user, interferer = (
            centre + np.array([distance_m * np.cos(angle), distance_m * np.sin(angle), height])
            for angle, height in zip(angles[:2], heights, strict=True)
        )
        loudspeaker = centre + loudspeaker_m * np.array([np.cos(angles[2]), np.sin(angles[2]), 0.0])
        everything = np.stack([centre, user, interferer, loudspeaker])
        inside = (everything > _WALL_MARGIN_M) & (everything < size - _WALL_MARGIN_M)
        if inside.all() and apart_deg > _SMALLEST_ANGLE_DEG:
            break
    turned_deg = float(np.rad2deg(angles[3]))
    microphones = circle(channels, centre=_point(centre), turned_deg=turned_deg)
    return _Places(
        Room(_point(size), rt60_s, microphones, RATE_HZ),
        *(_point(centre), turned_deg),
        *(_point(user), _point(interferer), _point(loudspeaker)),
    )


def _point(position: NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in position)
    return x, y, z


def _positions(places: _Places) -> NDArray[np.float64]:
    channels = len(places.room.microphones)
    return np.array(circle(channels, centre=(0.0, 0.0, 0.0)))


def _cast(seed: int, *, english: bool) -> tuple[Talker, Talker, Talker]:
    """User, far-end, interferer. The far-end is the appliance's own voice in every second scene."""
    users = people(seed, english=english)
    user = users[seed % len(users)]
    others = other_people(seed, user)
    turn = seed // len(users)
    far = appliance_voice(seed) if (seed + turn) % 2 == 0 else others[turn % len(others)]
    return user, far, others[(turn + 1) % len(others)]


def _segments(script: Script) -> tuple[Segment, ...]:
    result = []
    start = round(LEAD_IN_S * RATE_HZ)
    for kind, seconds in script:
        stop = start + round(seconds * RATE_HZ)
        result.append(Segment(kind, start, stop))
        start = stop
    return tuple(result)


def _merged(segments: Sequence[Segment], kinds: tuple[SegmentKind, ...]) -> list[tuple[int, int]]:
    """Sample ranges of segments of these kinds, adjoining ones as one."""
    result: list[tuple[int, int]] = []
    for segment in segments:
        if segment.kind in kinds:
            if result and result[-1][1] == segment.start:
                result[-1] = (result[-1][0], segment.stop)
            else:
                result.append((segment.start, segment.stop))
    return result


def _speak(
    talker: Talker,
    n: int,
    ranges: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    *,
    cut: bool = False,
) -> tuple[Samples, tuple[Utterance, ...]]:
    """Fill the ranges of a track (n,) with utterances in random order and pauses of 0.1 to 0.4 s.

    Utterances are left whole, unless `cut` or none fits into a range.
    """
    track = np.zeros(n, np.float32)
    placed: list[Utterance] = []
    if not ranges:
        return track, ()
    utterances = talker.utterances()
    queue: list[Recording] = []
    for start, stop in ranges:
        at = start
        while at < stop:
            if not queue:
                queue = [utterances[index] for index in rng.permutation(len(utterances))]
            fitting = (item for item in queue if len(item.samples) <= stop - at)
            if (chosen := queue[0] if cut else next(fitting, None)) is None:
                if at > start:
                    break
                chosen = queue[0]
            queue.remove(chosen)
            samples = chosen.samples[: stop - at]
            track[at : at + len(samples)] = samples
            whole = len(samples) == len(chosen.samples)
            placed.append(Utterance(at, at + len(samples), chosen.text if whole else ""))
            at += len(samples) + round(rng.uniform(0.1, 0.4) * RATE_HZ)
    return track, tuple(placed)


def _convolve(dry: Samples, response: Samples, n: int) -> Samples:
    wet: Samples = fftconvolve(dry[:, None], response, axes=0)[:n].T
    return np.ascontiguousarray(wet, dtype=np.float32)


def _soft_clip(samples: Samples) -> Samples:
    """Saturate by a hyperbolic tangent so that the distortion has its level."""
    if not samples.any():
        return samples

    def clipped(limit: float) -> Samples:
        return np.asarray(limit * np.tanh(samples / limit), np.float32)

    def excess_db(limit: float) -> float:
        return -si_sdr_db(samples, clipped(limit)) - _DISTORTION_DB

    peak = float(np.abs(samples).max())
    return clipped(brentq(excess_db, peak / 50, peak * 50, rtol=0.01))


def _arriving(samples: Samples, drift_ppm: float, delay: int) -> Samples:
    """A stream (n,) of a device whose clock is faster by `drift_ppm`, by our clock and late."""
    arrived = np.zeros_like(samples)
    if drift_ppm:
        samples = soxr.resample(samples, RATE_HZ * (1 + drift_ppm * 1e-6), RATE_HZ, "VHQ")
    arrived[delay : delay + len(samples)] = samples[: len(arrived) - delay]
    return arrived


def _ratio(level_db: float) -> float:
    return float(10 ** (level_db / 20))


def _gain(signal: Samples, active_dbfs: float) -> float:
    """That brings the first (or only) channel to this active level; 1 if it is silent."""
    level = active_rms(signal if signal.ndim == 1 else signal[0])
    return _ratio(active_dbfs) / level if level > 0 else 1.0

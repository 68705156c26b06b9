"""A chirp that tells what loudspeaker, room, microphones and clocks do. Pure, no devices.

Exponential sine sweeps: deconvolving one separates a system's impulse response from its harmonic
distortion, which comes out earlier (A. Farina, "Simultaneous measurement of impulse response and
distortion with a swept-sine technique", AES 2000). Two of them tell the drift of the clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.capture.delay import direct_path
from appliance.errors import ApplianceError

Response = NDArray[np.float32]

SWEEP_S = 1.5
GAP_S = 0.8
"""Silence after each sweep, in which the room fades away."""
_FROM_HZ, _TO_HZ = 150.0, 7000.0
_AMPLITUDE = 0.1
_FADE_S = 0.03

_SWEEP = round(SWEEP_S * RATE_HZ)
_APART = _SWEEP + round(GAP_S * RATE_HZ)
_EARLIEST, _LATEST = -800, 9600
"""Where an echo is looked for after its sweep, in samples."""
_RISES_DB = 18.0
"""The direct path over the noise before it; noise alone reaches 13."""
_FULL_SCALE = 0.985
_CLIPPED_SAMPLES = 8
_FLAT_RUN = 4
_LARGEST_DRIFT_PPM = 1000.0
_HARMONICS = (2, 3, 4, 5)
_HARMONIC_BEFORE, _HARMONIC_AFTER = 160, 960
_FLOOR = 1e-12

Condition = Literal["works", "clipped", "dead"]


@dataclass(frozen=True)
class MicrophoneReport:
    """What one microphone heard of the chirp; None where that cannot be told.

    Attributes:
        condition: dead: does not hear the loudspeaker. clipped: hears it too loud.
        delay_ms: of the direct path behind what was played.
        level_dbfs: RMS during the sweep.
        snr_db: that level over the level in silence.
        rt60_s: reverberation time (Schroeder's backward integration, from -5 to -25 dB or, in
            noise, to -15 dB, without the first 5 ms).
        distortion_percent: harmonics of the loudspeaker against the sweep (2nd to 5th, below
            7 kHz), in amplitude.
    """

    condition: Condition
    level_dbfs: float
    snr_db: float
    delay_ms: float | None = None
    rt60_s: float | None = None
    distortion_percent: float | None = None


@dataclass(frozen=True)
class ChirpReport:
    """What the chirp told.

    Attributes:
        microphones: one by one.
        drift_ppm: how much faster the playback's clock runs than the microphones'; None if no
            microphone hears it or if audio was lost in between.
    """

    microphones: tuple[MicrophoneReport, ...]
    drift_ppm: float | None


def sound() -> Samples:
    """The chirp, (n,): two sweeps of 1.5 s at -20 dBFS (peak), each followed by silence."""
    silence = np.zeros(_APART - _SWEEP, np.float32)
    return np.concatenate([_sweep(), silence, _sweep(), silence])


def analyse(far: Samples, mic: Samples) -> ChirpReport:
    """Compare what was played with what was heard.

    Args:
        far: shape (n,), what the loudspeaker was given, with the whole chirp at any level.
        mic: shape (channels, n), from the same time.

    Raises:
        ApplianceError: `far` does not hold the chirp, or both are not from the same time.
    """
    if mic.ndim != 2 or far.shape != mic.shape[1:]:
        raise ApplianceError(
            f"The chirp was played for {len(far)} samples and recorded for {mic.shape[-1]}: "
            "record the microphones for as long as it plays."
        )
    played = _deconvolve(far)
    first = _played_at(played)
    echoes = [_deconvolve(channel) for channel in mic]
    reports = [_judge(samples, echo, first) for samples, echo in zip(mic, echoes, strict=True)]
    apart_played = _apart(played, first)
    drifts_ppm = [
        (apart_played / _apart(echo, first + round(report.delay_ms * RATE_HZ / 1000)) - 1) * 1e6
        for echo, report in zip(echoes, reports, strict=True)
        if report.delay_ms is not None
    ]
    drift_ppm = float(np.median(drifts_ppm)) if drifts_ppm else None
    if drift_ppm is not None and abs(drift_ppm) > _LARGEST_DRIFT_PPM:
        drift_ppm = None
    return ChirpReport(tuple(reports), drift_ppm)


@cache
def _sweep() -> Samples:
    rate = np.log(_TO_HZ / _FROM_HZ) / _SWEEP
    growth = np.expm1(rate * np.arange(_SWEEP)) / rate
    fade = np.minimum(1, np.minimum(np.arange(_SWEEP), np.arange(_SWEEP)[::-1]) / RATE_HZ / _FADE_S)
    tone = np.sin(2 * np.pi * _FROM_HZ / RATE_HZ * growth) * np.sin(np.pi / 2 * fade) ** 2
    sweep: Samples = (_AMPLITUDE * tone).astype(np.float32)
    return sweep


def _deconvolve(samples: Samples) -> Response:
    """Response to a sweep that begins at each sample; what comes before 0 is at the end."""
    length = scipy.fft.next_fast_len(len(samples) + _SWEEP, real=True)
    sweep = scipy.fft.rfft(_sweep(), length)
    power = np.square(np.abs(sweep))
    inverse = sweep.conj() / (power + 1e-3 * power.max())
    response: Response = scipy.fft.irfft(scipy.fft.rfft(samples, length) * inverse, length)
    return response


def _played_at(played: Response) -> int:
    """Sample at which the first sweep begins in what was played."""
    height = np.abs(played)
    both = height[:-_APART] + height[_APART:] if len(height) > _APART else height[:1]
    first = int(np.argmax(both))
    rms = float(np.sqrt(np.mean(np.square(played))))
    if len(both) == 1 or min(height[first], height[first + _APART]) < 30 * rms + _FLOOR:
        raise ApplianceError(
            "The chirp is not in what the loudspeaker was given: is its volume at zero?"
        )
    return first


def _judge(samples: Samples, echo: Response, first: int) -> MicrophoneReport:
    search = np.abs(_part(echo, first + _EARLIEST, first + _LATEST))
    direct = first + _EARLIEST + direct_path(search)
    heard = _part(samples, direct, direct + _SWEEP)
    level = _power(heard)
    silence = min(_power(quiet) for quiet in _silences(samples, direct))
    level_dbfs, snr_db = _db(level), _db(level) - _db(silence)
    before = _power(_part(echo, direct - 640, direct - 160))
    if _db(float(search.max()) ** 2) - _db(before) < _RISES_DB or not search.any():
        return MicrophoneReport("dead", level_dbfs, snr_db)
    return MicrophoneReport(
        "clipped" if _clips(samples) else "works",
        level_dbfs,
        snr_db,
        delay_ms=(direct - first) * 1000 / RATE_HZ,
        rt60_s=_rt60_s(echo, direct),
        distortion_percent=_distortion_percent(echo, direct),
    )


def _silences(samples: Samples, direct: int) -> list[Samples]:
    """Before the first sweep, if there is enough of it, and before the second."""
    end = direct + _APART - 400
    early = samples[: max(0, direct - 400)]
    return [samples[end - 3200 : end], *([early] if len(early) >= 1600 else [])]


def _clips(samples: Samples) -> bool:
    """Whether it reaches full scale, or stays the same where it is loudest."""
    height = np.abs(samples)
    if np.count_nonzero(height >= _FULL_SCALE) >= _CLIPPED_SAMPLES:
        return True
    loud = height > max(0.05, 0.9 * float(height.max()))
    flat = loud[1:] & (samples[1:] == samples[:-1])
    runs = np.convolve(flat, np.ones(_FLAT_RUN - 1), "valid") == _FLAT_RUN - 1
    return bool(np.count_nonzero(runs) >= _CLIPPED_SAMPLES)


def _rt60_s(echo: Response, direct: int) -> float | None:
    tail = np.square(_part(echo, direct + 80, direct + round(1.2 * RATE_HZ)).astype(np.float64))
    noise = float(tail[-len(tail) // 5 :].mean())
    smooth = np.convolve(tail, np.ones(320) / 320, "same")
    buried = np.flatnonzero(smooth < 2 * noise)
    end = int(buried[0]) if len(buried) else len(tail)
    left = np.cumsum((tail[:end] - noise)[::-1])[::-1]
    if end < 320 or left[0] <= 0:
        return None
    decay_db = 10 * np.log10(np.maximum(left / left[0], _FLOOR))
    # The last part of the integral misses what lies in the noise: keep 10 dB away from there.
    reach_db = 10 * np.log10(max(left[-160], _FLOOR * left[0]) / left[0]) + 10
    for low_db in (-25.0, -15.0):
        if reach_db <= low_db:
            used = np.flatnonzero((decay_db <= -5) & (decay_db >= low_db))
            slope_db = float(np.polyfit(used / RATE_HZ, decay_db[used], 1)[0])
            return -60 / slope_db if slope_db < 0 else None
    return None


def _distortion_percent(echo: Response, direct: int) -> float:
    spread = _SWEEP / np.log(_TO_HZ / _FROM_HZ)

    def energy(at: int) -> float:
        return float(np.sum(np.square(_part(echo, at - _HARMONIC_BEFORE, at + _HARMONIC_AFTER))))

    noise = energy(direct - round(spread * np.log(_HARMONICS[-1] + 2)))
    harmonics = [energy(direct - round(spread * np.log(n))) - noise for n in _HARMONICS]
    return 100 * float(np.sqrt(max(0.0, sum(harmonics)) / (energy(direct) + _FLOOR)))


def _apart(response: Response, first: int) -> float:
    """How many samples later the second sweep's response comes than the first's."""
    before, after, finer = 64, 448, 16
    one = _part(response, first - before, first + after)
    two = _part(response, first + _APART - before, first + _APART + after)
    length = 2 * (before + after)
    cross = scipy.fft.rfft(two, length) * scipy.fft.rfft(one, length).conj()
    correlation = scipy.fft.irfft(cross, finer * length)
    peak = int(np.argmax(correlation))
    left, middle, right = correlation[[peak - 1, peak, (peak + 1) % len(correlation)]]
    peak_fine = peak + 0.5 * (left - right) / (left - 2 * middle + right - _FLOOR)
    if peak > len(correlation) // 2:
        peak_fine -= len(correlation)
    return float(_APART + peak_fine / finer)


def _part(samples: Samples, start: int, stop: int) -> Samples:
    """Samples by index, round the end."""
    return samples[np.arange(start, stop) % len(samples)]


def _power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def _db(power: float) -> float:
    return float(10 * np.log10(power + _FLOOR))

"""The chirp through synthetic loudspeakers, rooms, microphones and clocks."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from scipy.signal import fftconvolve

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.capture.chirp import ChirpReport, analyse, sound
from appliance.errors import ApplianceError

LEAD_IN = RATE_HZ // 2


def room(rt60_s: float, delay: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    n = round(1.2 * rt60_s * RATE_HZ)
    response = 0.03 * rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / (rt60_s * RATE_HZ))
    response[:16] = 0
    response[0] = 1
    return np.concatenate([np.zeros(delay), response]).astype(np.float32)


def played() -> Samples:
    return np.concatenate([np.zeros(LEAD_IN), sound(), np.zeros(LEAD_IN)]).astype(np.float32)


def heard(
    far: Samples,
    *,
    rt60_s: float = 0.3,
    delay: int = 1000,
    gain: float = 1.0,
    drive: float = 0.01,
    noise: float = 1e-4,
    drift_ppm: float = 0.0,
    seed: int = 0,
) -> Samples:
    """One microphone; `drive` is how far the loudspeaker is driven into its tanh."""
    out = fftconvolve(np.tanh(far * drive) / drive * gain, room(rt60_s, delay, seed))
    if drift_ppm:
        out = soxr.resample(out, RATE_HZ * (1 + drift_ppm * 1e-6), RATE_HZ, "VHQ")
    hiss = noise * np.random.default_rng(seed + 1).standard_normal(len(far))
    return (out[: len(far)] + hiss).astype(np.float32)


def analysed(**settings: float) -> ChirpReport:
    far = played()
    return analyse(far, heard(far, **settings)[None])  # type: ignore[arg-type]


def test_the_chirp_is_gentle() -> None:
    chirp = sound()
    assert np.abs(chirp).max() <= 0.1001
    assert abs(chirp[0]) < 1e-4
    assert np.abs(np.diff(chirp)).max() < 0.3
    assert 3 < len(chirp) / RATE_HZ < 5


@pytest.mark.parametrize("delay", [0, 5, 1000, 8000])
def test_delay(delay: int) -> None:
    microphone = analysed(delay=delay).microphones[0]
    assert microphone.condition == "works"
    assert microphone.delay_ms == pytest.approx(delay / 16, abs=0.1)


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.8])
def test_reverberation(rt60_s: float) -> None:
    assert analysed(rt60_s=rt60_s).microphones[0].rt60_s == pytest.approx(rt60_s, rel=0.15)


def test_reverberation_is_not_guessed_in_noise() -> None:
    microphone = analysed(noise=0.05).microphones[0]
    assert microphone.condition == "works"
    assert microphone.rt60_s is None or microphone.rt60_s == pytest.approx(0.3, rel=0.5)


@pytest.mark.parametrize("drift_ppm", [-100, 0, 35, 250])
def test_drift(drift_ppm: float) -> None:
    assert analysed(drift_ppm=drift_ppm).drift_ppm == pytest.approx(drift_ppm, abs=1)


def test_drift_in_noise_and_reverberation() -> None:
    report = analysed(drift_ppm=40, noise=0.01, rt60_s=0.8)
    assert report.drift_ppm == pytest.approx(40, abs=2)


def test_drift_is_not_told_when_audio_was_lost() -> None:
    far = played()
    mic = heard(far)
    lost = np.delete(mic, np.arange(2 * RATE_HZ + 8000, 2 * RATE_HZ + 8160))
    report = analyse(far, np.append(lost, mic[:160])[None])
    assert report.drift_ppm is None


@pytest.mark.parametrize(("drive", "percent"), [(0.01, 0.0), (3.0, 0.75), (6.0, 2.8)])
def test_distortion(drive: float, percent: float) -> None:
    # tanh's third harmonic is (drive * amplitude)^2 / 12 of the fundamental.
    distortion = analysed(drive=drive, noise=1e-5).microphones[0].distortion_percent
    assert distortion == pytest.approx(percent, rel=0.4, abs=0.1)


def test_level_and_noise() -> None:
    microphone = analysed(gain=0.5, noise=1e-3, rt60_s=0.2).microphones[0]
    assert microphone.level_dbfs == pytest.approx(-29, abs=2)
    assert microphone.snr_db == pytest.approx(60 - 29, abs=2)


def test_each_microphone_is_judged_by_itself() -> None:
    far = played()
    loud = heard(far, gain=20, delay=320)
    mic = np.stack(
        [
            heard(far, seed=1),
            np.zeros_like(far),
            hiss := heard(far, gain=0.0, noise=1e-3),
            np.clip(loud, -1, 1),
            np.clip(heard(far, gain=5), -0.3, 0.3),
            hiss + np.float32(0.5),
            -heard(far, gain=0.02, noise=1e-4, seed=2),
        ]
    )
    report = analyse(far, mic)
    conditions = [microphone.condition for microphone in report.microphones]
    assert conditions == ["works", "dead", "dead", "clipped", "clipped", "dead", "works"]
    assert report.microphones[1].delay_ms is None
    assert report.microphones[3].delay_ms == pytest.approx(20, abs=0.2)
    assert report.drift_ppm == pytest.approx(0, abs=1)


def test_nobody_hears_it() -> None:
    far = played()
    report = analyse(far, np.zeros((2, len(far)), np.float32))
    assert report.drift_ppm is None
    assert all(np.isfinite(microphone.level_dbfs) for microphone in report.microphones)


def test_what_was_played_must_be_the_chirp() -> None:
    far = played()
    noise = np.random.default_rng(0).standard_normal(len(far)).astype(np.float32)
    for other in (np.zeros_like(far), noise, far[: len(far) // 3]):
        with pytest.raises(ApplianceError, match="not in what the loudspeaker was given"):
            analyse(other, other[None])


def test_both_must_be_of_the_same_length() -> None:
    with pytest.raises(ApplianceError, match="record the microphones for as long"):
        analyse(played(), np.zeros((1, 100), np.float32))


def test_the_volume_does_not_matter() -> None:
    far = played() * np.float32(0.05)
    report = analyse(far, heard(far, noise=1e-6)[None])
    assert report.microphones[0].condition == "works"
    assert report.microphones[0].delay_ms == pytest.approx(62.5, abs=0.1)

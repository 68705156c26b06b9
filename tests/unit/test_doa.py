"""Directions of plane waves, of noise, and with broken microphones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray

from appliance.audio.blocks import Samples
from appliance.capture.doa import Direction, Doa
from appliance.capture.geometry import Geometry, circle, line, unknown
from appliance.capture.spectral import Analysis

_N = 16_000


def _plane_wave(array: Geometry, source: Samples, azimuth_deg: float) -> Samples:
    frequency_hz = scipy.fft.rfftfreq(len(source), 1 / 16_000)
    steering = array.steering(np.array([azimuth_deg]), frequency_hz)[0]
    wave: Samples = scipy.fft.irfft(scipy.fft.rfft(source) * steering, len(source))
    return wave.astype(np.float32)


def _talk(seed: int) -> Samples:
    """Noise that comes and goes as syllables do."""
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.random(_N // 1600) > 0.4, 1600)
    return (0.05 * envelope * rng.standard_normal(_N)).astype(np.float32)


def _hiss(shape: tuple[int, ...], seed: int = 9) -> Samples:
    return (1e-4 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _listen(doa: Doa, mic: Samples, **arguments: NDArray[np.float32]) -> Direction | None:
    analysis = Analysis(len(mic))
    direction = None
    for block in np.split(mic, mic.shape[1] // 160, axis=1):
        direction = doa.process(analysis.process(block), **arguments) or direction
    return direction


def _apart(a_deg: float, b_deg: float) -> float:
    return abs((a_deg - b_deg + 180) % 360 - 180)


@pytest.mark.parametrize("azimuth_deg", [0.0, 47.3, 181.0, 358.9])
def test_finds_a_plane_wave_between_the_grid(azimuth_deg: float) -> None:
    array = circle(4, 0.032)
    doa = Doa(array)
    mic = _plane_wave(array, _talk(1), azimuth_deg)
    running = _listen(doa, mic + _hiss(mic.shape))
    assert running is not None
    assert _apart(running.azimuth_deg, azimuth_deg) < 1
    assert doa.utterance is not None
    assert _apart(doa.utterance.azimuth_deg, azimuth_deg) < 1
    assert doa.utterance.confidence > 0.9


@pytest.mark.parametrize("azimuth_deg", [0.0, 30.0, 90.0, 145.0, 250.0])
def test_a_line_reports_the_side_to_its_left(azimuth_deg: float) -> None:
    array = line(4, 0.05)
    mic = _plane_wave(array, _talk(2), azimuth_deg)
    direction = _listen(Doa(array), mic + _hiss(mic.shape))
    assert direction is not None
    assert 0 <= direction.azimuth_deg <= 180
    assert _apart(direction.azimuth_deg, array.fold(azimuth_deg)) < 6  # blunt at its ends


def test_a_new_utterance_forgets_the_last() -> None:
    array = circle(4, 0.032)
    doa = Doa(array)
    hiss = _hiss((4, _N))
    _listen(doa, _plane_wave(array, _talk(3), 20) + hiss)
    doa.begin()
    assert doa.utterance is None
    _listen(doa, _plane_wave(array, _talk(4), 200) + hiss)
    assert doa.utterance is not None
    assert _apart(doa.utterance.azimuth_deg, 200) < 1


def test_bins_of_weight_zero_do_not_count() -> None:
    array = circle(4, 0.032)
    voice, music = _talk(5), _talk(6)
    spectrum = scipy.fft.rfft(voice)
    spectrum[2000:] = 0  # 2 kHz
    low = scipy.fft.irfft(spectrum).astype(np.float32)
    spectrum = scipy.fft.rfft(music)
    spectrum[:2200] = 0
    high = 3 * scipy.fft.irfft(spectrum).astype(np.float32)
    mic = _plane_wave(array, low, 60) + _plane_wave(array, high, 240) + _hiss((4, _N))
    lower = np.where(np.arange(161) <= 40, 1, 0).astype(np.float32)
    for weights, azimuth_deg in ((lower, 60), (1 - lower, 240)):
        heard = _listen(Doa(array), mic, weights=weights)
        assert heard is not None
        assert _apart(heard.azimuth_deg, azimuth_deg) < 5


def test_noise_from_everywhere_has_no_confident_direction() -> None:
    doa = Doa(circle(4, 0.032))
    direction = _listen(doa, 100 * _hiss((4, _N)))
    assert direction is None or direction.confidence < 0.5


def test_silence_and_inactive_blocks_have_no_direction() -> None:
    doa = Doa(circle(4, 0.032))
    assert _listen(doa, np.zeros((4, _N), np.float32)) is None
    mic = _plane_wave(circle(4, 0.032), _talk(7), 20)
    spectra = Analysis(4).process(mic[:, :160])
    assert all(doa.process(spectra, active=False) is None for _ in range(20))


def test_a_broken_microphone_is_left_out() -> None:
    array = circle(4, 0.032)
    mic = _plane_wave(array, _talk(8), 75) + _hiss((4, _N))
    mic[2] = 0.2 * np.random.default_rng(0).standard_normal(_N)
    direction = _listen(Doa(array), mic, usable=np.array([True, True, False, True]))
    assert direction is not None
    assert _apart(direction.azimuth_deg, 75) < 2
    alone = np.array([True, False, False, False])
    assert _listen(Doa(array), mic, usable=alone) is None


def test_an_unknown_geometry_has_no_direction() -> None:
    with pytest.raises(ValueError, match="positions"):
        Doa(unknown())

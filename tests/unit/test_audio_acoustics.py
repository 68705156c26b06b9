"""The virtual room's physics, without devices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from appliance.loopback.acoustics import Convolver, anechoic, shoebox, speech_bounds
from appliance.loopback.outside import find_in


@pytest.mark.parametrize("taps", [1, 79, 80, 81, 500])
def test_blockwise_convolution_is_convolution(taps: int) -> None:
    rng = np.random.default_rng(taps)
    response = rng.standard_normal((taps, 3)).astype(np.float32)
    signal = rng.standard_normal(800).astype(np.float32)
    convolver = Convolver(response, 80)
    blocks = [convolver.process(signal[start : start + 80]) for start in range(0, 800, 80)]
    exact = fftconvolve(signal[:, None].astype(float), response, axes=0)[:800]
    np.testing.assert_allclose(np.concatenate(blocks), exact, atol=1e-4)


def test_anechoic_echo_has_its_delay_and_level() -> None:
    acoustics = anechoic(48_000, 2, echo_db=-20, echo_delay_ms=5)
    assert acoustics.echo is not None
    assert acoustics.echo.shape == (241, 2)
    assert np.argmax(acoustics.echo[:, 1]) == 240
    assert acoustics.echo.max() == pytest.approx(0.1)
    assert acoustics.direct_path == 0


def test_noise_has_its_level_and_repeats_by_seed() -> None:
    acoustics = anechoic(16_000, 2, noise_dbfs=-40)
    noise = acoustics.noise(2, seed=7)
    assert noise is not None
    assert 20 * np.log10(noise.std()) == pytest.approx(-40, abs=0.2)
    np.testing.assert_array_equal(noise, acoustics.noise(2, seed=7))
    assert anechoic(16_000).noise(2, seed=7) is None


def test_a_simulated_room_keeps_level_and_distance() -> None:
    acoustics = shoebox(16_000, 4, rt60_s=0.2, echo_db=15, distance_m=2.0)
    assert acoustics.channels == 4
    assert np.linalg.norm(acoustics.near[:, 0]) == pytest.approx(1, abs=0.01)
    assert acoustics.echo is not None
    assert np.linalg.norm(acoustics.echo[:, 0]) == pytest.approx(10 ** (15 / 20), rel=0.01)
    # 2 m at 343 m/s are 93 samples; the simulation adds a constant 40 of its filters.
    assert acoustics.direct_path == pytest.approx(93 + 40, abs=6)


def test_speech_bounds() -> None:
    wave = np.zeros(16_000, np.float32)
    wave[3200:8000] = 0.5 * np.sin(np.arange(4800) * 0.1)
    wave[:] += 1e-4
    assert speech_bounds(wave, 16_000) == (3200, 8000)
    assert speech_bounds(np.zeros(1000, np.float32), 16_000) == (0, 1000)


def test_find_in_is_exact() -> None:
    rng = np.random.default_rng(0)
    recording = rng.standard_normal(20_000).astype(np.float32) * 0.01
    wanted = rng.standard_normal(500).astype(np.float32)
    recording[12_345:12_845] = 0.3 * wanted
    frame, correlation = find_in(recording, wanted)
    assert frame == 12_345
    assert correlation > 0.9999

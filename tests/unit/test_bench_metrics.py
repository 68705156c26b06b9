"""The measures of the front-end's bench, on signals whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from appliance.bench import metrics
from appliance.bench.nlms import nlms


@pytest.fixture
def speech() -> np.ndarray:
    """Modulated coloured noise, 2 s."""
    rng = np.random.default_rng(1)
    colour = lfilter([1.0], [1.0, -0.9], rng.standard_normal(32_000))
    envelope = np.clip(np.sin(2 * np.pi * 2 * np.arange(32_000) / 16_000), 0, 1)
    return (0.05 * colour * envelope).astype(np.float32)


def noise_at(speech: np.ndarray, sdr_db: float) -> np.ndarray:
    noise = np.random.default_rng(2).standard_normal(len(speech))
    noise *= np.linalg.norm(speech) / np.linalg.norm(noise) * 10 ** (-sdr_db / 20)
    return noise.astype(np.float32)


def test_active_level_leaves_pauses_out(speech: np.ndarray) -> None:
    padded = np.concatenate([speech, np.zeros(64_000, np.float32)])
    assert metrics.active_rms(padded) == pytest.approx(metrics.active_rms(speech), rel=1e-3)
    assert metrics.active_rms(speech) > np.sqrt(np.mean(speech**2))
    assert metrics.active_rms(np.zeros(1000, np.float32)) == 0


def test_erle(speech: np.ndarray) -> None:
    assert metrics.erle_db(speech, speech / 10) == pytest.approx(20, abs=1e-3)
    track = metrics.erle_track_db(
        speech, np.concatenate([speech[:16_000], speech[16_000:] / 100]), 1.0
    )
    np.testing.assert_allclose(track, [0, 40], atol=1e-3)
    assert metrics.erle_db(speech, np.zeros_like(speech)) == 100


@settings(max_examples=20, deadline=None)
@given(sdr_db=st.floats(-10, 30), gain=st.floats(0.01, 100))
def test_sdr_is_that_of_the_noise_whatever_the_gain(sdr_db: float, gain: float) -> None:
    rng = np.random.default_rng(3)
    speech = rng.standard_normal(16_000).astype(np.float32)
    estimate = np.float32(gain) * (speech + noise_at(speech, sdr_db))
    assert metrics.si_sdr_db(speech, estimate) == pytest.approx(sdr_db, abs=0.5)
    assert metrics.filtered_sdr_db(speech, estimate, 64) == pytest.approx(sdr_db, abs=0.6)


def test_filtered_sdr_allows_a_short_filter_and_no_more(speech: np.ndarray) -> None:
    for shift in (-100, 100):
        assert metrics.filtered_sdr_db(speech, np.roll(speech, shift)) > 25
        assert metrics.si_sdr_db(speech, np.roll(speech, shift)) < 3
    reflected = lfilter([1, 0, 0, 0.7, *([0] * 60), -0.4], [1], speech)
    assert metrics.filtered_sdr_db(speech, reflected) > 30
    assert metrics.filtered_sdr_db(speech, np.roll(speech, 2000)) < 5


def test_sinr_gain_counts_what_was_removed(speech: np.ndarray) -> None:
    other = noise_at(speech, 0)
    gain = metrics.sinr_gain_db(speech, speech + other, speech + other * 10 ** (-8 / 20))
    assert gain == pytest.approx(8, abs=0.3)


def test_silence_is_no_error(speech: np.ndarray) -> None:
    silence = np.zeros_like(speech)
    assert metrics.si_sdr_db(speech, silence) == -100
    assert metrics.filtered_sdr_db(silence, speech) == -100


def test_stoi_falls_with_noise(speech: np.ndarray) -> None:
    clean, noisy = (metrics.stoi(speech, speech + noise_at(speech, sdr)) for sdr in (40, -5))
    assert clean > 0.95
    assert noisy < clean - 0.1


@pytest.mark.parametrize(("one", "other", "apart"), [(359, 1, 2), (10, 350, 20), (90, 270, 180)])
def test_angles_wrap(one: float, other: float, apart: float) -> None:
    assert metrics.angle_error_deg(one, other) == apart


def test_nlms_finds_an_echo_path_and_fails_in_double_talk() -> None:
    rng = np.random.default_rng(4)
    far = rng.standard_normal(12_000).astype(np.float32)
    path = (rng.standard_normal(100) * np.exp(-np.arange(100) / 20)).astype(np.float32)
    echo = np.convolve(far, path)[:12_000].astype(np.float32)
    alone = nlms(echo, far, taps=128)
    assert metrics.erle_db(echo[-3000:], alone[-3000:]) > 60
    user = rng.standard_normal(12_000).astype(np.float32)
    user[:6000] = 0
    both = nlms(echo + user, far, taps=128)
    np.testing.assert_array_equal(both[:6000], alone[:6000])
    assert metrics.si_sdr_db(user[6000:], both[6000:]) < 10

"""The virtual room's loudspeaker: late by what it is told, drifting, distorting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

from appliance.loopback.loudspeaker import Loudspeaker, LoudspeakerStream

RATE_HZ = 16_000


def play(loudspeaker: Loudspeaker, wave: np.ndarray) -> np.ndarray:
    stream = LoudspeakerStream(loudspeaker, RATE_HZ)
    return np.concatenate([stream.process(block) for block in wave.reshape(-1, 160)])


def lag(wave: np.ndarray, heard: np.ndarray, first: int) -> int:
    """By how many samples a piece of the wave comes later."""
    piece = wave[first : first + 4_000]
    return int(np.argmax(correlate(heard[first : first + 8_000], piece, mode="valid")))


def noise(seconds: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(seconds * RATE_HZ).astype(np.float32)


def test_an_ideal_one_changes_nothing() -> None:
    wave = noise(1)
    np.testing.assert_array_equal(play(Loudspeaker(), wave), wave)


def test_delay() -> None:
    wave = noise(1)
    heard = play(Loudspeaker(delay_ms=150), wave)
    np.testing.assert_array_equal(heard[2_400:], wave[:-2_400])


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_drift_moves_the_echo_at_its_pace(ppm: float) -> None:
    wave = noise(20)
    heard = play(Loudspeaker(drift_ppm=ppm, delay_ms=100), wave)
    early, late = lag(wave, heard, RATE_HZ), lag(wave, heard, 16 * RATE_HZ)
    assert late - early == pytest.approx(ppm * 1e-6 * 15 * RATE_HZ, abs=1)
    assert early == pytest.approx(1_600, abs=10)


def test_it_saturates_softly() -> None:
    wave = np.linspace(-1, 1, 320, dtype=np.float32)
    heard = play(Loudspeaker(clip_level=0.3), wave)
    assert np.abs(heard).max() < 0.3
    assert heard[165] == pytest.approx(wave[165], rel=0.01)

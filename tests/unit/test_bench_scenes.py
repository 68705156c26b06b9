"""Simulated scenes are what they say they are: levels, delays, clocks, people."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from appliance.bench import scenes, talkers
from appliance.bench.metrics import active_rms, si_sdr_db
from appliance.bench.scenes import Scene, isotropic_noise, make_scene

RT60_S = 0.15
"""Short, so that rooms are simulated fast."""
ALL = (("far-only", 1.5), ("double-talk", 3.0), ("near-only", 2.0))
# Seed 1's far-end is a recorded person: these tests need no model.


def scene(seed: int = 1, **settings: object) -> Scene:
    return make_scene(seed, **{"rt60_s": RT60_S, "script": ALL, "channels": 2, **settings})


def level_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(active_rms(samples)))


@pytest.fixture(scope="module")
def full() -> Scene:
    return scene(echo_db=12, noise_snr_db=10, interferer_db=-3)


def test_microphones_hear_the_sum_of_the_components(full: Scene) -> None:
    assert full.mic.dtype == full.far.dtype == np.float32
    assert full.mic.shape == full.near.shape == (2, full.far.shape[0])
    np.testing.assert_allclose(
        full.mic, full.near + full.echo + full.noise + full.interferer, atol=1e-6
    )


def test_levels_are_relative_to_the_user(full: Scene) -> None:
    near_db = level_db(full.near[0])
    assert level_db(full.echo[0]) - near_db == pytest.approx(12, abs=0.1)
    assert level_db(full.interferer[0]) - near_db == pytest.approx(-3, abs=0.1)
    noise_db = 20 * np.log10(full.noise.std())
    assert near_db - noise_db == pytest.approx(10, abs=0.3)


def test_segments_hold_what_they_say(full: Scene) -> None:
    far_only, double, near_only = full.segments
    assert (far_only.kind, far_only.stop) == ("far-only", double.start)
    assert np.abs(full.near[:, : far_only.stop]).max() < 1e-6
    assert np.abs(full.far[near_only.start :]).max() == 0
    assert active_rms(full.near[0, double.start : double.stop]) > 0
    assert active_rms(full.echo[0, far_only.start : far_only.stop]) > 0
    assert full.mask("double-talk").sum() == double.stop - double.start


def test_utterances_are_whole_and_their_words_known() -> None:
    spoken = scene(english=True).utterances
    assert spoken
    assert all(utterance.text for utterance in spoken)
    assert all(first.stop < second.start for first, second in pairwise(spoken))


def test_a_seed_repeats_and_other_settings_leave_its_speech_alone() -> None:
    first, again, other = scene(), scene(), scene(echo_db=0, rt60_s=0.2, noise_snr_db=5)
    np.testing.assert_array_equal(first.mic, again.mic)
    np.testing.assert_array_equal(first.far, other.far)
    np.testing.assert_allclose(first.near_dry, other.near_dry, atol=1e-7)
    take = scene(take=1)
    assert np.abs(take.far - first.far).max() > 0.01
    assert take.near_direction_deg == first.near_direction_deg


def test_delay_moves_the_reference_ahead_and_leaves_the_microphones_alone() -> None:
    here, late = scene(), scene(delay_ms=100)
    np.testing.assert_allclose(late.mic, here.mic, atol=1e-4)
    np.testing.assert_allclose(late.far[:-1600], here.far[1600:], atol=1e-6)
    np.testing.assert_allclose(late.far_aligned, here.far, atol=1e-6)
    with pytest.raises(ValueError, match="delay"):
        scene(delay_ms=501)


@pytest.mark.parametrize("ppm", [100.0, -73.0])
def test_a_drifting_clock_is_exact(ppm: float) -> None:
    seconds = 4
    time_s = np.arange(seconds * 16_000) / 16_000
    for tone_hz in (440.0, 6000.0):
        tone = np.sin(2 * np.pi * tone_hz * time_s).astype(np.float32)
        heard = scenes._arriving(tone, ppm, 100)
        exact = np.sin(2 * np.pi * tone_hz * (1 + ppm * 1e-6) * (time_s - 100 / 16_000))
        error = (heard - exact)[800:-800]
        assert heard.shape == tone.shape
        assert 20 * np.log10(error.std() / exact.std()) < -80


def test_the_loudspeakers_distortion_has_its_level(full: Scene) -> None:
    assert si_sdr_db(full.far, scenes._soft_clip(full.far)) == pytest.approx(25, abs=0.3)
    nothing = np.zeros(100, np.float32)
    np.testing.assert_array_equal(scenes._soft_clip(nothing), nothing)


def test_isotropic_noise_has_the_coherence_of_its_field() -> None:
    from scipy.signal import coherence, csd

    apart_m = 0.064
    positions = np.array([[0.0, 0, 0], [apart_m, 0, 0]])
    first, second = isotropic_noise(np.random.default_rng(3), 400_000, positions)
    frequency_hz, cross = csd(first, second, 16_000, nperseg=512)
    _, one = csd(first, first, 16_000, nperseg=512)
    _, two = csd(second, second, 16_000, nperseg=512)
    measured = (cross / np.sqrt(one * two)).real
    expected = np.sinc(2 * frequency_hz * apart_m / 343)
    assert np.abs(measured - expected)[4:-4].max() < 0.15
    assert 10 * np.log10(one[16].real / one[128].real) == pytest.approx(9, abs=1.5)  # pink
    assert coherence(first, first, 16_000)[1].min() > 0.99


def test_directions_are_those_of_the_array() -> None:
    for seed in (1, 3):
        quiet = make_scene(seed, rt60_s=RT60_S, script=ALL, echo_db=None)
        angle = np.deg2rad(quiet.near_direction_deg)
        towards = quiet.positions_m @ [np.cos(angle), np.sin(angle), 0]
        nearest, farthest = int(np.argmax(towards)), int(np.argmin(towards))
        lags = np.arange(-8, 9)
        near, far = quiet.near_direct[nearest], quiet.near_direct[farthest]
        best = lags[np.argmax([np.dot(near, np.roll(far, -lag)) for lag in lags])]
        assert best == pytest.approx(16_000 * (towards[nearest] - towards[farthest]) / 343, abs=1)
        apart = abs((quiet.near_direction_deg - quiet.interferer_direction_deg + 180) % 360 - 180)
        assert apart > 45


def test_nothing_is_shared_between_development_and_held_out() -> None:
    development = {talker.name.split(" ")[0] for talker in talkers.people(0)}
    held_out = {talker.name.split(" ")[0] for talker in talkers.people(1000)}
    assert len(development) >= 3
    assert len(held_out) >= 3
    assert not development & held_out
    assert not set(talkers._ANSWERS_DEVELOPMENT) & set(talkers._ANSWERS_HELD_OUT)
    for seed in (0, 5, 999, 1000, 1001, 1002, 2000):
        user, far, other = (
            talker.name.split(" ")[0] for talker in scenes._cast(seed, english=False)
        )
        assert user not in (far, other)


def test_nobody_may_speak() -> None:
    quiet = scene(script=(("quiet", 1.0),))
    assert np.abs(quiet.near).max() == np.abs(quiet.echo).max() == 0
    assert 0 < np.abs(quiet.mic).max() < 0.01

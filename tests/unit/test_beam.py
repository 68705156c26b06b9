"""Beams towards plane waves; what the adaptive one learns, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from appliance.audio.blocks import Samples
from appliance.capture.beam import Beamformer, superdirective, wiener
from appliance.capture.doa import Direction, Doa
from appliance.capture.geometry import Geometry, circle, line, unknown
from appliance.capture.look import LookDirection
from appliance.capture.moments import Moment, Moments
from appliance.capture.spectral import BINS, Analysis, Spectra

_ARRAY = circle(4, 0.032)
_FREQUENCY_HZ = 50.0 * np.arange(BINS)
_SPEECH = Moment(speech=True, noise=False)
_NOISE = Moment(speech=False, noise=True)
_NEITHER = Moment(speech=False, noise=False)


def _plane_wave(azimuth_deg: float, seconds: float, seed: int, array: Geometry = _ARRAY) -> Samples:
    n = round(16_000 * seconds)
    source = 0.05 * np.random.default_rng(seed).standard_normal(n)
    steering = array.steering(np.array([azimuth_deg]), scipy.fft.rfftfreq(n, 1 / 16_000))[0]
    wave: Samples = scipy.fft.irfft(scipy.fft.rfft(source) * steering, n)
    return wave.astype(np.float32)


def _spectra(mic: Samples) -> list[Spectra]:
    analysis = Analysis(len(mic))
    return [analysis.process(block) for block in np.split(mic, mic.shape[1] // 160, axis=1)]


def _hiss(mic: Samples) -> Samples:
    hiss = 1e-4 * np.random.default_rng(99).standard_normal(mic.shape)
    return mic + hiss.astype(np.float32)


def _level(weights: Spectra, blocks: list[Spectra], low: int = 6) -> float:
    """Power of the output above 300 Hz relative to that of microphone 0, in dB."""
    out = sum(np.square(np.abs((weights.conj() * x).sum(0)[low:])).sum() for x in blocks)
    return float(10 * np.log10(out / sum(np.square(np.abs(x[0, low:])).sum() for x in blocks)))


@pytest.mark.parametrize("usable", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0]])
def test_superdirective_keeps_the_user_as_the_first_microphone_hears_them(
    usable: list[int],
) -> None:
    use = np.array(usable, bool)
    weights = superdirective(_ARRAY, 35.0, use)
    steering = _ARRAY.steering(np.array([35.0]), _FREQUENCY_HZ)[0]
    heard = (weights.conj() * steering).sum(axis=0)
    np.testing.assert_allclose(heard, steering[use.argmax()], atol=2e-3)
    assert not weights[~use].any()


def test_superdirective_suppresses_noise_from_everywhere_within_its_noise_gain() -> None:
    weights = superdirective(_ARRAY, 0.0, least_gain_db=-10)
    white_db = -10 * np.log10(np.square(np.abs(weights)).sum(axis=0))
    assert white_db.min() > -10.1
    apart = np.linalg.norm(_ARRAY.positions_m[:, None] - _ARRAY.positions_m[None], axis=-1)
    diffuse = np.sinc(2 * _FREQUENCY_HZ[:, None, None] * apart / 343)
    left = np.einsum("cf,fcd,df->f", weights.conj(), diffuse, weights).real
    assert (-10 * np.log10(left[20:80])).min() > 4.5  # 1 to 4 kHz


@pytest.mark.parametrize("mode", ["off", "adaptive"])
def test_nothing_to_suppress_is_the_reference_microphone(mode: str) -> None:
    beam = Beamformer(_ARRAY, 4, mode)  # type: ignore[arg-type]
    expected = np.zeros((4, BINS))
    expected[0] = 1
    for spectra in _spectra(_hiss(_plane_wave(10, 0.5, 1))):
        weights = beam.process(spectra, _SPEECH, look_deg=10.0)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_fixed_without_a_direction_is_the_reference_microphone() -> None:
    beam = Beamformer(_ARRAY, 4, "fixed")
    weights = beam.process(_spectra(_plane_wave(10, 0.01, 1))[0], _NEITHER)
    assert weights[0].min() == 1
    assert beam.name == "microphone 0"


def test_fixed_turns_smoothly() -> None:
    beam = Beamformer(_ARRAY, 4, "fixed")
    block = _spectra(_plane_wave(10, 0.01, 1))[0]
    for _ in range(100):
        before = beam.process(block, _NEITHER, look_deg=0.0).copy()
    first = beam.process(block, _NEITHER, look_deg=180.0).copy()
    wanted = superdirective(_ARRAY, 180.0)
    assert np.abs(first - before).max() < 0.11 * np.abs(wanted - before).max()
    for _ in range(100):
        last = beam.process(block, _NEITHER, look_deg=180.0)
    np.testing.assert_allclose(last, wanted, atol=1e-3)
    assert beam.name == "fixed 180"


_USER, _OTHER = _SPEECH._replace(rival=True), _NOISE._replace(rival=True)


def _learnt(array: Geometry, user: Samples, other: Samples, beam: Beamformer) -> Spectra:
    for spectra in _spectra(_hiss(other)):
        beam.process(spectra, _OTHER, look_deg=20.0)
    for spectra in _spectra(_hiss(user + other)):
        weights = beam.process(spectra, _USER, look_deg=20.0)
    return weights


@pytest.mark.parametrize("array", [_ARRAY, line(4, 0.05)], ids=lambda a: a.name)
def test_adaptive_removes_another_source_and_keeps_the_user(array: Geometry) -> None:
    user, other = _plane_wave(20, 1.5, 2, array), _plane_wave(110, 1.5, 3, array)
    weights = _learnt(array, user, other, Beamformer(array, 4))
    assert _level(weights, _spectra(other)) < -15
    assert _level(weights, _spectra(user)) == pytest.approx(0, abs=0.5)
    heard = weights.conj() * _spectra(user)[50]
    error = heard.sum(axis=0) - _spectra(user)[50][0]
    assert (
        np.square(np.abs(error[6:])).sum() < 0.02 * np.square(np.abs(_spectra(user)[50][0])).sum()
    )


def test_an_array_that_is_not_known_is_its_first_microphone() -> None:
    beam = Beamformer(unknown(), 4)
    for spectra in _spectra(_hiss(_plane_wave(20, 0.1, 2))):
        weights = beam.process(spectra, _NOISE, look_deg=20.0, noisy=1.0)
    np.testing.assert_array_equal(weights[0], 1)
    assert not weights[1:].any()


def test_in_noise_it_is_the_superdirective_beam_as_far_as_there_is_noise() -> None:
    beam = Beamformer(_ARRAY, 4)
    block = _spectra(_plane_wave(20, 0.01, 2))[0]
    for noisy in (1.0, 0.5):
        for _ in range(150):
            weights = beam.process(block, _NEITHER, look_deg=20.0, noisy=noisy)
        alone = np.eye(4)[:, :1]
        wanted = alone + noisy * (superdirective(_ARRAY, 20.0) - alone)
        np.testing.assert_allclose(weights, wanted, atol=1e-3)


def test_nothing_is_learned_while_the_loudspeaker_plays() -> None:
    beam = Beamformer(_ARRAY, 4)
    user, echo = _plane_wave(20, 1.5, 2), _plane_wave(200, 1.5, 3)
    for moment, source in ((_OTHER, echo), (_USER, user + echo)):
        for spectra in _spectra(_hiss(source)):
            weights = beam.process(spectra, moment, look_deg=20.0, far_end_active=True)
    np.testing.assert_allclose(weights[0], 1, atol=1e-4)
    for spectra in _spectra(_hiss(user)):
        weights = beam.process(spectra, _USER, look_deg=20.0)
    np.testing.assert_allclose(weights[0], 1, atol=1e-4)


def test_a_dead_microphone_is_left_out_at_once_and_the_reference_moves_on() -> None:
    beam = Beamformer(_ARRAY, 4)
    user, other = _plane_wave(20, 1.5, 2), _plane_wave(110, 1.5, 3)
    _learnt(_ARRAY, user, other, beam)
    use = np.array([False, True, True, True])
    broken = user + other
    broken[0] = np.random.default_rng(0).standard_normal(broken.shape[1])
    blocks = _spectra(broken)
    first = beam.process(blocks[0], _SPEECH, look_deg=20.0, usable=use)
    assert beam.reference == 1
    assert not first[0].any()
    for moment, source in ((_OTHER, other), (_USER, user + other)):
        source[0] = broken[0]
        for spectra in _spectra(_hiss(source)):
            weights = beam.process(spectra, moment, look_deg=20.0, usable=use)
    assert np.abs(weights[0]).max() < 1e-6
    alone = other.copy()
    alone[0] = alone[1]
    assert _level(weights, _spectra(alone)) < -12


def test_a_new_user_is_not_taken_for_noise() -> None:
    beam = Beamformer(_ARRAY, 4)
    user, other = _plane_wave(20, 1.0, 2), _plane_wave(110, 1.0, 3)
    _learnt(_ARRAY, user, other, beam)
    for spectra in _spectra(_hiss(other)):
        weights = beam.process(spectra, _SPEECH, look_deg=110.0)
    assert _level(weights, _spectra(other)) == pytest.approx(0, abs=0.5)


def test_weights_are_finite_on_silence() -> None:
    beam = Beamformer(_ARRAY, 4)
    silence = np.zeros((4, BINS), np.complex64)
    for moment in (_NOISE, _SPEECH) * 50:
        weights = beam.process(silence, moment._replace(rival=True), look_deg=0.0)
    assert np.isfinite(weights).all()


def test_the_wiener_filter_does_not_mind_the_order_of_microphones() -> None:
    rng = np.random.default_rng(4)
    parts = rng.standard_normal((2, 3, 4, 9)) + 1j * rng.standard_normal((2, 3, 4, 9))
    noise, speech = parts @ parts.conj().transpose(0, 1, 3, 2)
    order = [2, 0, 3, 1]
    there, _, ratios = wiener(noise + speech, noise, 0)
    shuffled = np.ix_(range(3), order, order)
    moved, _, same = wiener((noise + speech)[shuffled], noise[shuffled], 1)
    np.testing.assert_allclose(moved, there[:, order], atol=1e-6)
    np.testing.assert_allclose(same, ratios, rtol=1e-4)


def test_moments_tell_the_user_from_another_talker() -> None:
    doa, moments = Doa(_ARRAY), Moments()
    phase = np.arange(24) % 4  # user, pause, other, pause
    user, other = (
        _plane_wave(azimuth_deg, 2.4, 5) * np.repeat(phase == turn, 1600).astype(np.float32)
        for azimuth_deg, turn in ((20, 0), (110, 2))
    )
    told = []
    for spectra in _spectra(_hiss(user + other)):
        doa.process(spectra)
        told.append(moments.process(spectra[0], doa, 20.0))
    speech, noise = (np.array([m[field] for m in told]).reshape(24, 10) for field in (0, 1))
    assert speech[phase == 0].mean() > 0.1
    assert noise[phase == 2].mean() > 0.1
    assert speech[phase == 2].mean() < 0.05
    assert noise[phase == 0].mean() < 0.05
    assert any(moment.rival for moment in told[-40:])


def test_moments_learn_noise_only_from_echo_while_the_far_end_plays() -> None:
    moments = Moments()
    blocks = _spectra(_plane_wave(20, 0.5, 7))
    alone = [moments.process(x[0], None, None, far_end_active=True, near_end=0) for x in blocks]
    both = [moments.process(x[0], None, None, far_end_active=True, near_end=1) for x in blocks]
    assert all(m == _NOISE for m in alone)
    assert not any(m.noise for m in both)


def test_without_directions_moments_go_by_level() -> None:
    moments = Moments()
    mic = _plane_wave(20, 2, 8)
    mic[:, :16_000] *= 0.01
    told = [moments.process(x[0], None, None) for x in _spectra(mic)]
    assert np.mean([m.noise for m in told[10:95]]) > 0.9
    assert all(m.speech and not m.noise for m in told[110:])


def test_look_direction_holds_and_switches() -> None:
    look = LookDirection()
    assert look.process(None) is None
    for _ in range(20):
        first = look.process(Direction(40, 0.95))
    assert first == 40
    for _ in range(30):
        assert look.process(Direction(200, 0.95)) == 40
    assert look.process(Direction(41, 0.9)) == pytest.approx(40, abs=0.1)
    for _ in range(100):
        assert look.process(Direction(200, 0.3)) == pytest.approx(40, abs=0.1)
    for _ in range(50):
        last = look.process(Direction(200, 0.95))
    assert last == 200
    for _ in range(100):
        moved = look.process(Direction(210, 0.95))
    assert moved == pytest.approx(209, abs=1)
    assert LookDirection(90).process(Direction(200, 1)) == 90

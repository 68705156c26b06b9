import numpy as np
import pytest

from appliance.capture.residual import ResidualSuppressor
from appliance.capture.spectral import BINS

NONE = np.zeros(BINS, np.float32)


def spectrum(rng, level):
    values = rng.standard_normal((BINS, 2)) @ [1, 1j]
    return (level * values).astype(np.complex64)


def far_end_only(suppressor, rng, blocks, leakage=0.1):
    for _ in range(blocks):
        echo = spectrum(rng, 1.0)
        gain = suppressor.process(leakage * echo + spectrum(rng, 0.3 * leakage), echo, NONE)
    return gain


def test_without_echo_nothing_is_suppressed():
    suppressor = ResidualSuppressor()
    error = spectrum(np.random.default_rng(1), 0.1)
    gain = suppressor.process(error, np.zeros(BINS, np.complex64), NONE)
    assert np.array_equal(gain, np.ones(BINS, np.float32))
    assert suppressor.near_end == 1.0


@pytest.mark.parametrize("leakage", [0.03, 0.1, 0.3])
def test_what_leaks_is_suppressed_whatever_its_level(leakage):
    rng = np.random.default_rng(2)
    suppressor = ResidualSuppressor()
    gain = far_end_only(suppressor, rng, 600, leakage)
    assert 20 * np.log10(np.median(gain)) < -20
    assert suppressor.near_end < 0.2


def test_the_near_end_opens_the_gate_at_once_and_keeps_its_bins():
    rng = np.random.default_rng(3)
    suppressor = ResidualSuppressor()
    far_end_only(suppressor, rng, 600)
    near = NONE.astype(np.complex64)
    near[10:60] = spectrum(rng, 2.0)[10:60]
    for _ in range(5):
        echo = spectrum(rng, 1.0)
        gain = suppressor.process(0.1 * echo + near, echo, NONE)
    assert suppressor.near_end > 0.9
    assert np.median(gain[10:60]) > 0.9
    assert np.median(gain[80:]) < 0.5


def test_the_near_end_is_not_learnt_as_residue():
    rng = np.random.default_rng(4)
    suppressor = ResidualSuppressor()
    far_end_only(suppressor, rng, 600)
    for _ in range(500):
        echo = spectrum(rng, 1.0)
        gain = suppressor.process(0.1 * echo + spectrum(rng, 2.0), echo, NONE)
    assert np.median(gain) > 0.85


def test_late_reverberation_is_suppressed_too():
    rng = np.random.default_rng(5)
    quiet = np.zeros(BINS, np.complex64)
    late = np.full(BINS, 0.5, np.float32)
    suppressor = ResidualSuppressor()
    for _ in range(100):
        gain = suppressor.process(spectrum(rng, 0.5), quiet, late)
    assert 20 * np.log10(np.median(gain)) < -15


def test_the_leakage_is_kept():
    rng = np.random.default_rng(6)
    first = ResidualSuppressor()
    far_end_only(first, rng, 600, 0.02)
    second = ResidualSuppressor()
    second.restore(first.state())
    kept = second.state()["leakage_db"]
    np.testing.assert_array_equal(kept, first.state()["leakage_db"])
    assert not np.array_equal(kept, ResidualSuppressor().state()["leakage_db"])


@pytest.mark.parametrize(
    "bad", [{}, {"leakage_db": np.zeros(3)}, {"leakage_db": np.full(161, np.nan)}]
)
def test_a_state_that_does_not_fit_is_left_alone(bad):
    suppressor = ResidualSuppressor()
    before = suppressor.state()["leakage_db"]
    suppressor.restore(bad)
    np.testing.assert_array_equal(suppressor.state()["leakage_db"], before)


def test_the_gain_is_a_gain():
    rng = np.random.default_rng(7)
    suppressor = ResidualSuppressor()
    for level in 10.0 ** rng.uniform(-6, 3, 300):
        echo = spectrum(rng, level)
        gain = suppressor.process(spectrum(rng, 10 ** rng.uniform(-6, 3)), echo, NONE)
        assert gain.dtype == np.float32
        assert (gain > 0).all()
        assert (gain <= 1).all()


def test_silence_before_an_echo_is_no_sign_of_the_user():
    rng = np.random.default_rng(8)
    suppressor = ResidualSuppressor()
    far_end_only(suppressor, rng, 600)
    for _ in range(20):
        suppressor.listen(spectrum(rng, 1e-4))
    assert suppressor.near_end == 1.0
    for _ in range(2):
        echo = spectrum(rng, 1.0)
        suppressor.process(0.1 * echo, echo, NONE)
    assert suppressor.near_end < 0.2


def test_a_microphone_that_is_not_open_is_no_quiet_room():
    rng = np.random.default_rng(9)
    suppressor = ResidualSuppressor()
    for _ in range(200):
        suppressor.listen(np.zeros(BINS, np.complex64))
    for _ in range(100):
        suppressor.listen(spectrum(rng, 0.01))
    assert suppressor.noise_power > 0.2 * 2 * BINS * 0.01**2


def test_a_shift_of_pressure_is_nobody():
    rng = np.random.default_rng(10)
    suppressor = ResidualSuppressor()
    far_end_only(suppressor, rng, 600)
    for _ in range(20):
        echo = spectrum(rng, 1.0)
        error = 0.1 * echo
        error[0] = 30.0
        suppressor.process(error, echo, NONE)
    assert suppressor.near_end < 0.2

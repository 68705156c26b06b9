import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.capture.aec import EchoCanceller, EchoCancellerSettings

RATE = 16_000
SHORT = EchoCancellerSettings(tail_ms=80)


def noise(seed, seconds, level=0.1):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype("f4")


def room(seed, channels, taps=1000, first=40):
    rng = np.random.default_rng(seed)
    response = rng.standard_normal((channels, taps)) * np.exp(-np.arange(taps) / 200)
    response[:, :first] = 0
    response[:, first] = 3.0
    return (0.3 * response / np.linalg.norm(response, axis=1, keepdims=True)).astype("f4")


def echo_of(far, response):
    return np.stack([np.convolve(far, taps)[: len(far)] for taps in response]).astype("f4")


def run(canceller, mic, far):
    errors, echoes = [], []
    for at in range(0, len(far) - 159, 160):
        error, echo, _ = canceller.process(mic[:, at : at + 160], far[at : at + 160])
        errors.append(error)
        echoes.append(echo)
    return np.concatenate(errors, axis=1), np.concatenate(echoes, axis=1)


def erle_db(echo, error, start_s, end_s):
    part = slice(round(start_s * RATE), round(end_s * RATE))
    return 10 * np.log10(np.sum(echo[:, part] ** 2) / np.sum(error[:, part] ** 2))


def test_it_learns_the_path_of_every_microphone():
    far = noise(1, 4)
    echo = echo_of(far, room(2, 3))
    error, estimate = run(EchoCanceller(3, SHORT), echo, far)
    for channel in range(3):
        one = slice(channel, channel + 1)
        assert erle_db(echo[one], error[one], 3, 4) > 30
    np.testing.assert_allclose(error + estimate, echo, atol=1e-5)


def test_the_near_end_passes_unharmed_and_unlearnt():
    far, near = noise(1, 6), noise(5, 6, 0.03)
    near[: 3 * RATE] = 0
    echo = echo_of(far, room(2, 1))
    error, _ = run(EchoCanceller(1, SHORT), echo + near, far)
    late = slice(4 * RATE, 6 * RATE)
    left = error[0, late] - near[late]
    assert 10 * np.log10(np.sum(near[late] ** 2) / np.sum(left**2)) > 10


def test_a_silent_far_end_changes_nothing():
    mic = noise(3, 1)[None]
    error, echo = run(EchoCanceller(1, SHORT), mic, np.zeros(RATE, np.float32))
    assert np.array_equal(error, mic)
    assert not echo.any()


def test_a_path_that_changes_is_learnt_anew():
    far = noise(1, 8)
    echo = np.concatenate(
        [
            echo_of(far, room(2, 1))[:, : 4 * RATE],
            echo_of(far, room(9, 1, first=60))[:, 4 * RATE :],
        ],
        axis=1,
    )
    error, _ = run(EchoCanceller(1, SHORT), echo, far)
    assert erle_db(echo, error, 4.0, 4.2) < 6
    assert erle_db(echo, error, 6.0, 7.0) > 20


def test_a_kept_path_works_from_the_first_block():
    far = noise(1, 5)
    echo = echo_of(far, room(2, 2))
    first = EchoCanceller(2, SHORT)
    assert first.state() == {}
    run(first, echo, far)
    second = EchoCanceller(2, SHORT)
    second.restore(first.state())
    error, _ = run(second, echo, far)
    assert erle_db(echo, error, 0.2, 0.7) > 25


@pytest.mark.parametrize("change", ["channels", "length", "not finite", "empty"])
def test_a_state_that_does_not_fit_is_left_alone(change):
    far = noise(1, 5)
    echo = echo_of(far, room(2, 2))
    first = EchoCanceller(2, SHORT)
    run(first, echo, far)
    state = first.state()
    if change == "not finite":
        state["filter"][0, 0, 0] = np.nan
    if change == "empty":
        state = {}
    other = EchoCanceller(
        3 if change == "channels" else 2,
        EchoCancellerSettings(tail_ms=120) if change == "length" else SHORT,
    )
    other.restore(state)
    assert other.state() == {}


@pytest.mark.parametrize("shift", [-32.0, 16.0, 50.5])
def test_taps_follow_a_reference_that_jumps(shift):
    far = noise(1, 6)
    echo = echo_of(far, room(2, 1, first=300, taps=1200))
    canceller = EchoCanceller(1, SHORT)
    run(canceller, echo[:, : 4 * RATE], far[: 4 * RATE])
    spectrum = np.fft.rfft(far, 2 * len(far))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * len(far)) * shift)
    later = np.fft.irfft(spectrum * turn)[: len(far)].astype("f4")
    canceller.shift(shift)
    error, _ = run(canceller, echo[:, 4 * RATE :], later[4 * RATE :])
    assert erle_db(echo[:, 4 * RATE :], error, 0.2, 0.6) > 15


def test_a_quiet_beginning_does_not_set_the_scale_of_the_distortion():
    """Noise of the far-end's recording is heard before its talker."""
    far = noise(1, 4)
    far[:RATE] *= 0.02
    echo = echo_of(far, room(2, 1))
    canceller = EchoCanceller(1, SHORT)
    error, _ = run(canceller, echo, far)
    assert canceller.divergences == 0
    assert np.sum(error[:, RATE:] ** 2) < np.sum(echo[:, RATE:] ** 2)
    assert erle_db(echo, error, 3, 4) > 25


def test_a_held_filter_cancels_and_learns_nothing():
    far = noise(1, 5)
    echo = echo_of(far, room(2, 1))
    canceller = EchoCanceller(1, SHORT)
    run(canceller, echo, far)
    before = canceller.state()
    errors = []
    for at in range(0, RATE, 160):
        block = slice(at, at + 160)
        errors.append(canceller.process(3 * echo[:, block], far[block], hold=True).error)
    assert all(np.array_equal(before[name], canceller.state()[name]) for name in before)
    left = np.concatenate(errors, axis=1)[0, 3200:]
    assert np.mean(left**2) == pytest.approx(4 * np.mean(echo[0, 3200:RATE] ** 2), rel=0.05)


def test_a_kept_path_fits_at_once_where_the_past_is_known():
    far = noise(1, 5)
    echo = echo_of(far, room(2, 1))
    first, second = EchoCanceller(1, SHORT), EchoCanceller(1, SHORT)
    run(first, echo, far)
    second.restore(first.state())
    second.rewrite(far[: 2 * RATE])
    late = slice(2 * RATE, 3 * RATE)
    error, _ = run(second, echo[:, late], far[late])
    assert erle_db(echo[:, late], error, 0, 0.05) > 25
    assert second.divergences == 0


def test_a_filter_that_adds_echo_is_thrown_away():
    far = noise(1, 5)
    echo = echo_of(far, room(2, 1))
    canceller = EchoCanceller(1, SHORT)
    run(canceller, echo, far)
    assert canceller.divergences == 0
    wrong = canceller.state()
    wrong["filter"] *= -30
    wrong["variance"][:] = 0  # and sure of it
    canceller.restore(wrong)
    error, _ = run(canceller, echo, far)
    assert canceller.divergences == 1
    assert erle_db(echo, error, 4, 5) > 25


@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(
        st.sampled_from(["silence", "square", "noise", "tone", "offset"]), min_size=2, max_size=6
    ),
)
@settings(max_examples=25, deadline=None)
def test_whatever_comes_the_output_is_finite_and_bounded(seed, shapes):
    rng = np.random.default_rng(seed)
    canceller = EchoCanceller(2, SHORT)
    signals = {
        "silence": np.zeros(3200),
        "square": np.where(np.arange(3200) % 40 < 20, 1.0, -1.0),
        "noise": rng.uniform(-1, 1, 3200),
        "tone": np.sin(np.arange(3200) / 5),
        "offset": np.full(3200, 0.9),
    }
    for shape in shapes:
        far = signals[shape].astype("f4")
        mic = np.stack([signals[shapes[0]], signals[rng.choice(list(signals))]]).astype("f4")
        error, echo = run(canceller, mic, far)
        assert np.isfinite(error).all()
        assert np.isfinite(echo).all()
        assert np.abs(error).max() < 20


def test_the_first_blocks_of_a_sentence_do_not_pass_for_another_path():
    fading = 10 ** (-3 * np.arange(RATE) / RATE)
    far = noise(1, 12) * np.tile(fading, 12).astype("f4")
    played = far + 0.1 * np.abs(far)  # what is left of an echo that distorts is as loud as it is
    mic = echo_of(played, room(2, 1)) + noise(7, 12, 1e-5)
    canceller = EchoCanceller(1, SHORT)
    explained = []
    for at in range(0, len(far), 160):
        canceller.process(mic[:, at : at + 160], far[at : at + 160])
        explained.append(canceller.explained)
    onsets = range(400, len(explained), 100)
    assert max(max(explained[onset : onset + 20]) for onset in onsets) < 0.25

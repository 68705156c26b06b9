"""What comes in and goes out is bounded, whatever the hardware delivers."""

from functools import cache

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.audio.files import read_speech
from appliance.capture.agc import AutomaticGain
from appliance.capture.limits import Faults, OutputGuard, Sanitizer
from appliance.run import QUESTION

CHANNELS = 2
any_block = hnp.arrays(
    np.float32,
    (CHANNELS, 160),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    fill=st.sampled_from([0.0, 1.0, -1.0, 0.3, float("nan"), float("inf")]),
)


def tone(hz: float, blocks: int, level: float = 0.1) -> np.ndarray:
    """Shape (blocks, 1, 160)."""
    samples = level * np.sin(2 * np.pi * hz / 16_000 * np.arange(blocks * 160))
    return samples.astype(np.float32).reshape(blocks, 1, 160)


def noise(blocks: int, level: float, channels: int = 1, seed: int = 1) -> np.ndarray:
    """Shape (blocks, channels, 160)."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal((blocks, channels, 160))).astype(np.float32)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=float)) + 1e-12))


# --- sanitizer ----------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(any_block, max_size=6))
def test_anything_becomes_finite_and_bounded(blocks: list[np.ndarray]) -> None:
    sanitizer = Sanitizer(CHANNELS)
    for block in blocks:
        out = sanitizer.process(block)
        assert out.shape == block.shape
        assert out.dtype == np.float32
        assert np.abs(out).max() <= 3.0  # a high-pass of ±1 overshoots; False for NaN
    # nothing of it is left in the filter a second later
    for _ in range(100):
        out = sanitizer.process(np.zeros((CHANNELS, 160), np.float32))
    assert np.abs(out).max() < 1e-4


def test_faults_are_counted() -> None:
    block = np.zeros((2, 160), np.float32)
    block[0, :4] = np.nan, np.inf, -np.inf, 0.5
    block[1, :5] = 1.0, -1.0, 32767 / 32768, 1.5, -1e30
    sanitizer = Sanitizer(2)
    sanitizer.process(block)
    assert sanitizer.faults == Faults(nan_samples=3, excess_samples=2, clipped_samples=3)


def test_the_input_is_left_as_it_was() -> None:
    block = np.full((1, 160), np.nan, np.float32)
    Sanitizer(1).process(block)
    assert np.isnan(block).all()


def test_an_offset_is_removed_and_counted() -> None:
    sanitizer = Sanitizer(2)
    blocks = tone(400, 200)
    for block in blocks:
        out = sanitizer.process(np.vstack([block, block + 0.3]))
    assert abs(float(out[1].mean())) < 1e-3
    np.testing.assert_allclose(out[1], out[0], atol=1e-3)
    np.testing.assert_allclose(sanitizer.offset, [0, 0.3], atol=0.01)
    assert 150 < sanitizer.faults.dc_blocks < 200


@pytest.mark.parametrize(("hz", "gain_db"), [(35, -12.3), (70, -3), (120, -0.5), (1000, 0)])
def test_high_pass(hz: float, gain_db: float) -> None:
    sanitizer = Sanitizer(1)
    blocks = tone(hz, 100)
    out = np.stack([sanitizer.process(block) for block in blocks])
    assert level_db(out[50:]) - level_db(blocks[50:]) == pytest.approx(gain_db, abs=0.15)
    assert sanitizer.faults == Faults()


@pytest.mark.parametrize("cutoff_hz", [0.5, 20, 70])
def test_high_pass_is_that_of_scipy(cutoff_hz: float) -> None:
    samples = noise(1000, 0.1) + np.float32(0.3)
    sections = scipy.signal.butter(2, cutoff_hz, "highpass", fs=16_000, output="sos")
    expected = scipy.signal.sosfilt(sections, samples.reshape(-1).astype(float))
    sanitizer = Sanitizer(1, cutoff_hz=cutoff_hz)
    out = np.concatenate([sanitizer.process(block)[0] for block in samples])
    np.testing.assert_allclose(out, expected, atol=5e-7)  # single precision, -126 dBFS


def test_silence_is_silence_once_the_filter_has_come_to_rest_and_then_it_starts_as_ever() -> None:
    silence, voice = np.zeros((1, 160), np.float32), noise(20, 0.1)
    sanitizer, fresh = Sanitizer(1, cutoff_hz=70), Sanitizer(1, cutoff_hz=70)
    for block in [*voice, *[silence] * 200]:
        out = sanitizer.process(block)
    assert not out.any()
    for block in voice:
        np.testing.assert_allclose(sanitizer.process(block), fresh.process(block), atol=1e-7)


def test_channels_are_treated_alike() -> None:
    blocks = noise(20, 0.2)
    sanitizer = Sanitizer(3)
    for block in blocks:
        out = sanitizer.process(np.repeat(block, 3, axis=0))
        np.testing.assert_allclose(out, np.repeat(out[:1], 3, axis=0), atol=1e-6)


# --- output guard -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@settings(max_examples=50)
@given(st.lists(hnp.arrays(np.float32, 160, elements=st.floats(width=32)), max_size=8))
def test_whatever_a_stage_gives_stays_finite_bounded_and_not_too_loud(
    blocks: list[np.ndarray],
) -> None:
    guard = OutputGuard(max_gain_db=18)
    mic = noise(1, 0.01)[0]
    allowed_db = level_db(mic) + 18.01
    for block in blocks:
        out = guard.process(block, mic)
        assert np.abs(out).max() <= 1.0
        assert level_db(out) <= allowed_db


@pytest.mark.filterwarnings("error")
def test_the_loudest_number_there_is_is_turned_down_and_not_overflowed() -> None:
    guard, mic = OutputGuard(max_gain_db=18), noise(1, 0.01)[0]
    wild = np.full(160, np.finfo(np.float32).max)
    assert level_db(guard.process(wild, mic)) == pytest.approx(level_db(mic) + 18, abs=0.1)


def test_what_is_in_order_passes_untouched_even_after_the_voice_has_stopped() -> None:
    guard = OutputGuard(max_gain_db=18)
    voice, silence = noise(30, 0.05), np.zeros((1, 160), np.float32)
    mic = [*voice, silence, silence, silence]
    out = [silence, silence, silence, *(4 * voice)]  # 30 ms late and 12 dB louder
    for heard, block in zip(mic, out, strict=True):
        assert guard.process(block[0], heard) is not None
        np.testing.assert_array_equal(guard.process(block[0], heard), block[0])
    assert guard.guarded_blocks == 0


def test_a_stage_that_ran_away_is_turned_down_at_once_and_back_within_two_blocks() -> None:
    guard = OutputGuard(max_gain_db=6)
    voice = noise(40, 0.01)
    for mic in voice[:10]:
        guard.process(mic[0], mic)
    assert level_db(guard.process(80 * voice[10, 0], voice[10])) <= level_db(voice[:11]) + 7
    guard.process(voice[11, 0], voice[11])
    np.testing.assert_array_equal(guard.process(voice[12, 0], voice[12]), voice[12, 0])
    assert guard.guarded_blocks == 2


def test_nothing_heard_means_nothing_said() -> None:
    guard = OutputGuard(max_gain_db=18)
    for block in noise(60, 0.3):
        out = guard.process(block[0], np.zeros((1, 160), np.float32))
    assert level_db(out) < -85


# --- automatic gain -----------------------------------------------------------------------------


@cache
def question() -> np.ndarray:
    """A recorded question of 3 s in blocks (n, 160) at -23 dBFS."""
    samples, _ = read_speech(QUESTION)
    blocks = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    return (10 ** (-23 / 20) / np.std(blocks) * blocks).astype(np.float32)


def voice(level_dbfs: float, repeats: int = 1) -> np.ndarray:
    """The question at a level; shape (blocks, 160)."""
    scaled = 10 ** ((level_dbfs + 23) / 20) * question()
    return np.tile(scaled, (repeats, 1)).clip(-1, 1).astype(np.float32)


def test_a_soft_voice_is_raised_between_turns_and_never_within_one() -> None:
    gain = AutomaticGain(max_gain_db=12)
    soft = voice(-50)
    pause = np.zeros((120, 160), np.float32)
    for _ in range(3):
        out = []
        gains = []
        for block in soft:
            out.append(gain.process(block))
            gains.append(gain.gain_db)
        assert max(gains) - min(gains) < 0.01
        for block in pause:
            gain.process(block)
    raised_db = level_db(np.stack(out)) - level_db(soft)
    assert raised_db == pytest.approx(12, abs=0.5)
    assert gain.gain_db <= 12


@pytest.mark.parametrize("max_gain_db", [0.0, 6.0, 18.0])
def test_never_louder_than_the_limit_even_at_the_start(max_gain_db: float) -> None:
    gain = AutomaticGain(max_gain_db=max_gain_db)
    for block in voice(-40):
        out = gain.process(block)
        assert level_db(out) <= level_db(block) + max_gain_db + 0.1


@pytest.mark.parametrize("level_dbfs", [-80, -60, -45, -30])
def test_noise_is_not_raised(level_dbfs: float) -> None:
    gain = AutomaticGain()
    hiss = noise(800, 10 ** (level_dbfs / 20))
    out = np.stack([gain.process(block[0]) for block in hiss])
    assert level_db(out[-200:]) <= max(level_db(hiss) + 1, -50 + 1)


def test_silence_stays_silence() -> None:
    gain = AutomaticGain()
    for _ in range(50):
        assert not gain.process(np.zeros(160, np.float32)).any()


def test_a_loud_voice_after_a_soft_one_does_not_clip() -> None:
    gain = AutomaticGain()
    for block in [*voice(-50, 3), *voice(-12)]:
        assert np.abs(gain.process(block)).max() <= 1.0


def test_held_speech_does_not_raise_the_gain() -> None:
    gain = AutomaticGain()
    before_db = gain.gain_db
    for block in voice(-50, 2):
        gain.process(block, hold=True)
    assert gain.gain_db <= before_db + 0.1


def test_gain_without_delay() -> None:
    gain = AutomaticGain(max_gain_db=0)
    blocks = voice(-30)
    out = np.stack([gain.process(block) for block in blocks])
    np.testing.assert_allclose(out, blocks, atol=1e-4)


@pytest.mark.parametrize("start_db", [0.0, 6.0, 12.0])
def test_starts_from_the_gain_of_another_time(start_db: float) -> None:
    earlier = AutomaticGain(initial_gain_db=start_db)
    later = AutomaticGain()
    later.restore(earlier.state())
    assert later.gain_db == pytest.approx(start_db, abs=1.0)


def test_square_wave_at_full_scale() -> None:
    gain = AutomaticGain(initial_gain_db=12)
    square = np.sign(np.sin(np.arange(16_000) * 0.05)).astype(np.float32)
    out = np.stack([gain.process(block) for block in square.reshape(-1, 160)])
    assert np.abs(out).max() <= 1.0


def test_speech_after_a_long_silence_is_listened_to() -> None:
    voice = read_speech(QUESTION)[0] * np.float32(0.05)
    room = noise(1000, 1e-4)[:, 0]
    spoken = voice[: len(voice) // 160 * 160].reshape(-1, 160) + room[: len(voice) // 160]
    gain = AutomaticGain()
    for _ in range(4):
        for block in [*room[:500], *spoken]:
            gain.process(block)
    for block in room[:200]:
        gain.process(block)
    assert gain.gain_db > 10.0

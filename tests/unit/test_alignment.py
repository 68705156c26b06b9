"""The aligner on synthetic echoes: speech-like noise through decaying rooms, on drifting clocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.capture.alignment import Aligned, AlignmentSettings, ReferenceAligner
from appliance.capture.delay import CoarseSearch, Template, direct_path
from appliance.capture.drift import DriftFilter
from appliance.capture.fractional import FractionalReader, History

DIRECT = 7
"""Samples from the loudspeaker to the microphone."""


@cache
def babble(seed: int, seconds: float) -> Samples:
    """Noise with the tilt and the syllables of speech."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    noise = lfilter([1], [1, -1.3, 0.5], rng.standard_normal(n))
    syllables = np.maximum(0, rng.standard_normal(n // 2000 + 2) + 0.4)
    speech = noise * np.interp(np.arange(n) / 2000, np.arange(len(syllables)), syllables)
    return (0.05 * speech / np.sqrt(np.mean(speech**2))).astype(np.float32)


def room(seed: int, rt60_s: float, direct_to_reverberant_db: float) -> Samples:
    rng = np.random.default_rng(seed)
    n = round(rt60_s * RATE_HZ)
    response = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    response[: DIRECT + 16] = 0
    response *= 10 ** (-direct_to_reverberant_db / 20) / np.linalg.norm(response)
    response[DIRECT] = 1
    return (response / np.linalg.norm(response)).astype(np.float32)


def echo_of(
    far: Samples,
    *,
    delay_ms: float = 100.0,
    drift_ppm: float = 0.0,
    rt60_s: float = 0.3,
    direct_to_reverberant_db: float = 6.0,
    seed: int = 0,
) -> Samples:
    """What a microphone hears of a loudspeaker that clips softly, on a clock that runs faster."""
    sound = fftconvolve(np.tanh(far * 6) / 6, room(seed, rt60_s, direct_to_reverberant_db))
    if drift_ppm:
        sound = soxr.resample(sound, RATE_HZ * (1 + drift_ppm * 1e-6), RATE_HZ, "VHQ")
    delay = round(delay_ms * RATE_HZ / 1000)
    if delay < 0:
        return sound[-delay : len(far) - delay].astype(np.float32)
    return np.concatenate([np.zeros(delay), sound])[: len(far)].astype(np.float32)


def hiss(n: int, rms: float = 5e-4, seed: int = 5) -> Samples:
    return (rms * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@dataclass
class Run:
    aligner: ReferenceAligner
    blocks: list[Aligned]
    locked_s: float | None
    found_s: float | None
    applied: NDArray[np.float64]
    """Delay of the reference at the end of each block, in samples."""

    @property
    def samples(self) -> Samples:
        return np.concatenate([block.samples for block in self.blocks])

    @property
    def moves(self) -> list[float]:
        """Seconds at which the reference jumped."""
        return [
            k * 0.01 for k, block in enumerate(self.blocks) if block.shift_samples or block.relocked
        ]


def run(far: Samples, mic: Samples, aligner: ReferenceAligner | None = None) -> Run:
    aligner = aligner or ReferenceAligner()
    blocks: list[Aligned] = []
    applied: list[float] = []
    locked_s = found_s = None
    for start in range(0, len(far) - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
        stop = start + BLOCK_SAMPLES
        blocks.append(aligner.process(far[start:stop], mic[start:stop]))
        applied.append(aligner.applied_ms * RATE_HZ / 1000)
        if blocks[-1].shift_samples and found_s is None:
            found_s = stop / RATE_HZ
        if aligner.locked and locked_s is None:
            locked_s = stop / RATE_HZ
    return Run(aligner, blocks, locked_s, found_s, np.array(applied))


def true_delay(blocks: int, delay_ms: float, drift_ppm: float) -> NDArray[np.float64]:
    """Delay of the direct path at the end of each block, in samples."""
    delay = round(delay_ms * RATE_HZ / 1000)
    at = BLOCK_SAMPLES * np.arange(1, blocks + 1)
    return DIRECT + at - (at - delay) * (1 + drift_ppm * 1e-6)


@pytest.mark.parametrize(
    ("drift_ppm", "delay_ms", "rt60_s", "direct_db"),
    [
        (0, 60, 0.3, 6),
        (100, 200, 0.6, 0),
        (-100, 50, 0.3, 6),
        (20, 490, 0.8, -3),
        (300, 20, 0.3, 3),
    ],
)
def test_delay_and_drift_are_found(
    drift_ppm: float, delay_ms: float, rt60_s: float, direct_db: float
) -> None:
    far = babble(1, 9)
    mic = echo_of(
        far,
        delay_ms=delay_ms,
        drift_ppm=drift_ppm,
        rt60_s=rt60_s,
        direct_to_reverberant_db=direct_db,
    ) + hiss(len(far))
    result = run(far, mic)
    assert result.found_s is not None
    assert result.locked_s is not None
    assert result.found_s <= 1 + delay_ms / 1000
    assert result.locked_s <= 2
    delay = true_delay(len(result.applied), delay_ms, drift_ppm)
    assert result.aligner.delay_ms == pytest.approx(delay[-1] * 1000 / RATE_HZ, abs=0.2)
    assert result.aligner.drift_ppm == pytest.approx(drift_ppm, abs=1)
    late = (delay - result.applied)[400:]
    assert np.ptp(late) < 0.1
    assert late.mean() == pytest.approx(32, abs=8)
    assert result.aligner.relocks == 0
    assert len(result.moves) == 1


def test_reference_is_the_far_end_by_the_microphones_clock() -> None:
    far = babble(1, 9)
    delay = 1600
    mic = echo_of(far, delay_ms=100, drift_ppm=80) + hiss(len(far))
    result = run(far, mic)
    by_mic = soxr.resample(far, RATE_HZ * (1 + 80e-6), RATE_HZ, "VHQ")
    ideal = np.concatenate([np.zeros(delay, np.float32), by_mic])
    part = slice(6 * RATE_HZ, 9 * RATE_HZ)
    # A short filter makes up for the constant part of a sample between both.
    shifts = np.stack([np.roll(ideal, shift - 25 - 16)[part] for shift in range(33)], axis=1)
    wanted = result.samples[part]
    fit = shifts @ np.linalg.lstsq(shifts, wanted, rcond=None)[0]
    below_6_khz = slice(0, 6000 * 3)
    error = np.abs(np.fft.rfft(wanted - fit))[below_6_khz]
    power = np.abs(np.fft.rfft(wanted))[below_6_khz]
    assert 10 * np.log10(np.sum(error**2) / np.sum(power**2)) < -50


def test_double_talk_does_not_move_the_reference() -> None:
    far, near = babble(1, 9), babble(2, 9)
    echo = echo_of(far, drift_ppm=-60)
    mic = echo + near * np.float32(np.sqrt(np.mean(echo**2) / np.mean(near**2))) + hiss(len(far))
    result = run(far, mic)
    assert len(result.moves) == 1
    assert result.aligner.locked
    assert result.aligner.drift_ppm == pytest.approx(-60, abs=1)
    delay = true_delay(len(result.applied), 100, -60)
    assert np.ptp((delay - result.applied)[400:]) < 0.2


@pytest.mark.parametrize("jump_ms", [-150, -5, 0.5, 5, 150])
def test_a_jump_is_followed_within_two_seconds(jump_ms: float) -> None:
    far = babble(3, 8)
    change, lost = 5 * RATE_HZ, round(jump_ms * RATE_HZ / 1000)
    before = echo_of(far, delay_ms=200, drift_ppm=30)
    after = echo_of(far, delay_ms=200 + jump_ms, drift_ppm=30)
    mic = np.concatenate([before[:change], after[change:]]) + hiss(len(far))
    result = run(far, mic)
    off = true_delay(len(result.applied), 200, 30) - result.applied
    assert result.aligner.relocks == 1
    assert all(5 < at < 7 for at in result.moves[1:])
    assert result.blocks[round(result.moves[1] * 100)].relocked
    assert result.blocks[round(result.moves[1] * 100)].shift_samples == 0
    assert off[700:] + lost == pytest.approx(off[499], abs=0.3)
    assert result.aligner.drift_ppm == pytest.approx(30, abs=2)


def test_a_pause_is_bridged() -> None:
    far = babble(4, 20).copy()
    far[5 * RATE_HZ : 16 * RATE_HZ] = 0
    result = run(far, echo_of(far, drift_ppm=90) + hiss(len(far)))
    off = true_delay(len(result.applied), 100, 90) - result.applied
    assert off[1590:] == pytest.approx(off[490], abs=0.3)
    assert len(result.moves) == 1
    assert not result.samples[round(5.5 * RATE_HZ) : 16 * RATE_HZ].any()


def test_nothing_is_found_where_nothing_is_heard() -> None:
    far = babble(1, 4)
    result = run(far, babble(2, 4))
    assert not result.aligner.locked
    assert not result.moves
    np.testing.assert_array_equal(result.samples, far)


def test_an_echo_that_stops_is_not_found_in_somebodys_speech() -> None:
    far = babble(1, 10)
    mic = echo_of(far)
    mic[4 * RATE_HZ :] = 0
    result = run(far, mic + babble(2, 10))
    assert len(result.moves) == 1
    assert result.aligner.relocks == 0
    assert not result.aligner.locked


def test_silence_stays_silence() -> None:
    far = np.zeros(2 * RATE_HZ, np.float32)
    result = run(far, babble(2, 2))
    assert not result.samples.any()
    assert not result.aligner.locked


def test_a_tone_tells_no_delay() -> None:
    n = 3 * RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(2 * n))).astype(np.float32)
    fade = np.minimum(1, np.arange(n) / RATE_HZ).astype(np.float32)
    result = run(fade * tone[n:], fade * tone[n - 1000 : -1000] + hiss(n))
    assert not result.aligner.locked
    assert not result.moves


def test_an_echo_before_its_time_stamp_is_reported() -> None:
    far = babble(1, 3)
    result = run(far, echo_of(far, delay_ms=-8, drift_ppm=0) + hiss(len(far)))
    aligner = result.aligner
    assert aligner.delay_ms == pytest.approx(-8 + DIRECT / 16, abs=0.2)
    assert aligner.applied_ms == pytest.approx(25 / 16, abs=0.1)
    assert aligner.too_late_ms == pytest.approx(25 / 16 - aligner.delay_ms, abs=0.2)


def test_a_far_end_brought_back_in_step_does_not_move_the_reference() -> None:
    far = babble(1, 8)
    mic = echo_of(far, delay_ms=100) + hiss(len(far))
    aligner = ReferenceAligner()
    pieces, position = [], 0
    for k in range(len(far) // BLOCK_SAMPLES):
        take = {300: 2 * BLOCK_SAMPLES, 500: 0}.get(k, BLOCK_SAMPLES)
        block = mic[k * BLOCK_SAMPLES : (k + 1) * BLOCK_SAMPLES]
        pieces.append(aligner.process(far[position : position + take], block))
        position += take
        if k == 400:
            assert aligner.delay_ms == pytest.approx(110 + DIRECT / 16, abs=0.2)
    assert [bool(piece.shift_samples) for piece in pieces].count(True) == 1
    assert not any(piece.relocked for piece in pieces)
    expected = run(far, mic).samples
    actual = np.concatenate([piece.samples for piece in pieces])
    np.testing.assert_allclose(actual[3 * RATE_HZ :], expected[3 * RATE_HZ :], atol=1e-4)


@pytest.mark.parametrize("stream", ["far", "mic"])
def test_bad_samples_are_forgotten(stream: str) -> None:
    far = babble(1, 6).copy()
    mic = echo_of(far, drift_ppm=40) + hiss(len(far))
    bad = far if stream == "far" else mic
    bad[2 * RATE_HZ : 2 * RATE_HZ + 50] = np.nan
    bad[2 * RATE_HZ + 400] = np.inf
    result = run(far, mic)
    assert np.isfinite(result.samples).all()
    assert result.aligner.locked
    assert result.aligner.drift_ppm == pytest.approx(40, abs=2)


@cache
def kept() -> dict[str, NDArray[np.float64]]:
    far = babble(1, 6)
    return run(far, echo_of(far, delay_ms=120, drift_ppm=50) + hiss(len(far))).aligner.state()


def test_a_kept_lock_is_used_at_once() -> None:
    aligner = ReferenceAligner()
    aligner.restore(kept())
    assert not aligner.locked
    far = babble(6, 4)
    # Another day: the clocks are the same, the delay is where the last session left it.
    result = run(far, echo_of(far, delay_ms=120 - 0.3, drift_ppm=50) + hiss(len(far)), aligner)
    off = true_delay(len(result.applied), 120 - 0.3, 50) - result.applied
    assert result.locked_s is not None
    assert result.locked_s < 0.7
    assert off[70:] == pytest.approx(32, abs=8)
    assert np.ptp(off[70:]) < 0.1
    assert not any(block.shift_samples for block in result.blocks)


@pytest.mark.parametrize("apart", [-200, -64, -16, 0, 16, 64, 150])
def test_a_place_from_before_is_verified_within_a_quarter_of_a_second(apart: int) -> None:
    aligner = ReferenceAligner()
    aligner.restore(kept())
    far = babble(6, 3)
    delay_ms = aligner.delay_ms + apart * 1000 / RATE_HZ
    result = run(far, echo_of(far, delay_ms=delay_ms) + hiss(len(far)), aligner)
    placed = [block.placed for block in result.blocks]
    first = placed.index(True)
    assert 5 < first <= 25
    assert all(placed[first:])
    off = true_delay(len(result.applied), delay_ms, 0) - result.applied
    assert off[first + 1 :] == pytest.approx(32, abs=2.5)
    at = [block.past is not None for block in result.blocks].index(True, 1)
    moved = result.blocks[at]
    assert moved.past is not None
    assert moved.relocked
    assert len(moved.past) % BLOCK_SAMPLES == 0
    end = round(at * BLOCK_SAMPLES - result.applied[at])
    want = far[max(0, end - 400) : end]
    assert np.dot(want, moved.past[-len(want) :]) > 0.9 * np.dot(want, want)


def test_a_place_in_the_future_is_made_up_for_by_the_taps() -> None:
    aligner = ReferenceAligner()
    aligner.restore(kept())
    far = babble(6, 2)
    result = run(far, echo_of(far, delay_ms=2.5) + hiss(len(far)), aligner)
    late = result.applied[-1] - (2.5 * RATE_HZ / 1000 + DIRECT - 32)
    assert late > 8
    shifts = [block.shift_samples for block in result.blocks]
    assert sum(shifts) == pytest.approx(late, abs=2.5)


def test_nothing_is_verified_for_ever() -> None:
    aligner = ReferenceAligner()
    aligner.restore(kept())
    far = babble(6, 4)
    placed = [block.placed for block in run(far, hiss(len(far)), aligner).blocks]
    assert not any(placed[:100])
    assert placed[-1]


def test_a_kept_lock_that_does_not_fit_is_given_up() -> None:
    aligner = ReferenceAligner()
    aligner.restore(kept())
    far = babble(6, 9)
    mic = echo_of(far, delay_ms=260, drift_ppm=-80, rt60_s=0.6, direct_to_reverberant_db=0, seed=9)
    result = run(far, mic + hiss(len(far)), aligner)
    off = true_delay(len(result.applied), 260, -80) - result.applied
    assert off[150:] == pytest.approx(32, abs=12)
    assert result.aligner.drift_ppm == pytest.approx(-80, abs=1.5)


@pytest.mark.parametrize(
    "state",
    [{}, {"line": np.zeros(2)}, {"line": np.zeros(3), "template": np.zeros(4, np.complex64)}],
)
def test_a_state_of_another_kind_is_ignored(state: dict[str, NDArray[np.float64]]) -> None:
    aligner = ReferenceAligner()
    aligner.restore(state)
    far = babble(1, 0.5)
    np.testing.assert_array_equal(run(far, far, aligner).samples, far)


def test_a_state_with_nan_is_ignored() -> None:
    aligner = ReferenceAligner()
    aligner.restore({**kept(), "line": np.array([np.nan, 0, 0])})
    assert aligner.delay_ms == 0


def test_a_lock_that_never_was_is_not_kept() -> None:
    assert ReferenceAligner().state() == {}


def test_the_search_range_is_a_setting() -> None:
    far = babble(1, 3)
    mic = echo_of(far, delay_ms=150) + hiss(len(far))
    near_only = ReferenceAligner(AlignmentSettings(max_delay_ms=100))
    assert not run(far, mic, near_only).moves


@given(
    hz=st.floats(50, 7000),
    start=st.floats(400, 500),
    drift_ppm=st.floats(-800, 800),
    phase=st.floats(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_reading_between_samples_is_clean(
    hz: float, start: float, drift_ppm: float, phase: float
) -> None:
    def sine(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sin(2 * np.pi * hz / RATE_HZ * at + phase)

    history = History(1000)
    history.append(sine(np.arange(1000.0)).astype(np.float32))
    last = start + 159 * (1 + drift_ppm * 1e-6)
    read = FractionalReader().read(history, start, last)
    error = read - sine(np.linspace(start, last, BLOCK_SAMPLES))
    assert 10 * np.log10(np.mean(error**2) / 0.5) < -70


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_history_is_addressed_by_index(lengths: list[int]) -> None:
    history = History(50)
    for length in lengths:
        history.append(np.arange(history.end, history.end + length, dtype=np.float32))
    expected = np.maximum(np.arange(history.end - 50, history.end), 0)
    np.testing.assert_array_equal(history.window(history.end, 50), expected)
    np.testing.assert_array_equal(history.window(history.end - 10, 5), expected[35:40])


def test_the_direct_path_comes_before_a_stronger_reflection() -> None:
    correlation = np.zeros(1000, np.float32)
    correlation[[400, 460, 300]] = 0.7, 1.0, 0.4
    assert direct_path(correlation) == 400


def test_a_coarse_search_finds_a_negative_delay() -> None:
    search = CoarseSearch(-160, 800, frame=4096)
    noise = babble(1, 1)
    far = noise[: search.span]
    mic = far[800 + 100 : 800 + 100 + 4096]
    peak = search.search(far, mic, expected=None)
    assert peak.delay == -100
    assert peak.strength > 7
    assert peak.lead > 1.5


def test_a_template_measures_fractions_of_a_sample() -> None:
    template = Template(frame=4096)
    far = babble(1, 2)
    fine = soxr.resample(far, 1, 10, "VHQ")
    for start in (2000, 6000, 10000):
        reference, mic = far[start:][:4096], far[start - 20 :][:4096]
        phases, shift = template.measure(reference, mic, 20, 16)
        template.learn(phases, shift.samples, 60)
    moved = fine[10 * 14000 - 237 :: 10][:4096]
    _, shift = template.measure(far[14000:][:4096], moved, 20, 16)
    assert shift.samples == pytest.approx(23.7, abs=0.02)
    assert shift.strength > 6


def test_the_drift_filter_is_a_regression_that_forgets_slowly() -> None:
    rng = np.random.default_rng(0)
    line = DriftFilter(wander=0.02e-6 / np.sqrt(RATE_HZ))
    line.start(0.0, 16.0, 0.0, 150e-6)
    for k in range(1, 400):
        line.advance(2080)
        slope = 50e-6 if k < 200 else 52e-6
        turn = 200 * 2080
        true = 100 + min(k * 2080, turn) * 50e-6 + max(0, k * 2080 - turn) * slope
        noise = 0.03 * rng.standard_normal() + (5.0 if k % 50 == 0 else 0.0)
        line.update(true + noise, 0.03**2, 0)
        if k == 60:
            assert line.drift == pytest.approx(50e-6, abs=0.7e-6)
    assert line.drift == pytest.approx(52e-6, abs=0.5e-6)
    assert line.drift_deviation < 0.3e-6
    assert line.deviation_of(line.delay + 1, 0.03**2, 0) > 5

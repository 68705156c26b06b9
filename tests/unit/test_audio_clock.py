"""The sample clock: quiet, unbiased by late callbacks, quick after a step."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.clock import SampleClock

BLOCK, RATE_HZ = 160, 16_000
BLOCK_NS = 10_000_000


def capture_clock() -> SampleClock:
    return SampleClock(RATE_HZ, early_gain=0.5, late_gain=0.002)


def errors_ms(clock: SampleClock, truth_ns: np.ndarray, late_ns: np.ndarray) -> np.ndarray:
    stamps = [
        clock.observe(k * BLOCK, round(t + late))
        for k, (t, late) in enumerate(zip(truth_ns, late_ns, strict=True))
    ]
    return (np.array(stamps) - truth_ns) / 1e6


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
def test_late_callbacks_hardly_move_it(drift_ppm: int) -> None:
    truth = np.arange(3000) * BLOCK_NS * (1 + drift_ppm * 1e-6) + 1e12
    late = np.random.default_rng(5).exponential(1.5e6, 3000)
    late[::100] += 15e6
    errors = errors_ms(capture_clock(), truth, late)[500:]
    assert abs(np.median(errors)) < 1.5
    assert np.ptp(errors) < 3


def test_it_follows_a_step_within_half_a_second() -> None:
    truth = np.arange(400) * BLOCK_NS + 1e12
    truth[200:] += 80e6  # the device lost 80 ms
    errors = errors_ms(capture_clock(), truth, np.zeros(400))
    assert np.abs(errors[:200]).max() < 0.01
    assert np.abs(errors[250:]).max() < 5


def test_one_long_stall_is_no_step() -> None:
    late = np.zeros(300)
    late[150:160] = np.linspace(100e6, 10e6, 10)  # ten callbacks at once
    errors = errors_ms(capture_clock(), np.arange(300) * BLOCK_NS + 1e12, late)
    assert np.abs(errors).max() < 2


def test_time_of_any_frame() -> None:
    clock = capture_clock()
    with pytest.raises(ValueError, match="not started"):
        clock.time_of(0)
    clock.observe(1600, 10**12)
    assert clock.time_of(0) == 10**12 - 100_000_000
    assert clock.time_of(3200) == 10**12 + 100_000_000
    clock.reset()
    assert clock.observe(0, 5) == 5

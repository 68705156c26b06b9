"""Faults of microphones: found, named, left out, and forgiven."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.audio.blocks import Samples
from appliance.capture.channels import ChannelMonitor, OrderMonitor
from appliance.capture.doa import Doa
from appliance.capture.geometry import circle
from appliance.capture.spectral import Analysis


def _sound(seconds: float, channels: int = 4, level: float = 0.01, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal((channels, round(16_000 * seconds)))).astype(np.float32)


def _watch(monitor: ChannelMonitor, mic: Samples) -> list[list[bool]]:
    blocks = np.split(mic, mic.shape[1] // 160, axis=1)
    return [monitor.process(block).tolist() for block in blocks]


def _zero(mic: Samples) -> None:
    mic[2] = 0


def _stuck(mic: Samples) -> None:
    mic[2] = 0.01


def _clip(mic: Samples) -> None:
    mic[2] = np.clip(1000 * mic[2], -1, 1)


def _offset(mic: Samples) -> None:
    mic[2] += 0.2


def _deaf(mic: Samples) -> None:
    mic[2] *= 0.01


def _noisy(mic: Samples) -> None:
    mic[2] *= 20


def _not_a_number(mic: Samples) -> None:
    mic[2, 100] = np.nan
    mic[2, 8000] = np.inf


def _same(mic: Samples) -> None:
    mic[2] = mic[0]


FAULTS = {
    "dead": _zero,
    "clipped": _clip,
    "offset": _offset,
    "silent": _deaf,
    "loud": _noisy,
    "nan": _not_a_number,
    "same": _same,
}


@pytest.mark.parametrize(("reason", "fault"), FAULTS.items())
def test_a_fault_is_named_left_out_and_forgiven_within_two_seconds(
    reason: str, fault: Callable[[Samples], None]
) -> None:
    monitor = ChannelMonitor(4)
    assert all(all(usable) for usable in _watch(monitor, _sound(1)))
    mic = _sound(2, seed=1)
    fault(mic)
    broken = _watch(monitor, mic)
    assert broken[-100:] == [[True, True, False, True]] * 100 or reason == "nan"
    assert [True, True, False, True] in broken
    assert monitor.counts == {reason: 1}
    if reason != "nan":
        assert monitor.reasons[2] == reason
    after = _watch(monitor, _sound(2, seed=2))
    assert after[-1] == [True] * 4
    assert monitor.reasons == ("ok",) * 4


def test_a_constant_is_dead() -> None:
    monitor = ChannelMonitor(4)
    mic = _sound(1)
    _stuck(mic)
    assert _watch(monitor, mic)[-1] == [True, True, False, True]
    assert monitor.reasons[2] == "dead"


def test_a_number_that_is_none_counts_at_once() -> None:
    monitor = ChannelMonitor(2)
    block = _sound(0.01, 2)
    block[0, 3] = np.nan
    assert monitor.process(block).tolist() == [False, True]


def test_a_mono_microphone_in_stereo_is_one_microphone() -> None:
    monitor = ChannelMonitor(2)
    mic = _sound(2, 2)
    mic[1] = mic[0]
    assert _watch(monitor, mic)[-1] == [True, False]
    assert monitor.reasons == ("ok", "same")


def test_unplugged_mid_stream_and_back() -> None:
    monitor = ChannelMonitor(4)
    _watch(monitor, _sound(1))
    gone = _sound(1, seed=1)
    gone[0] = 0
    assert _watch(monitor, gone)[60] == [False, True, True, True]
    assert _watch(monitor, _sound(2, seed=2))[-1] == [True] * 4


@pytest.mark.parametrize("level", [0.0, 1e-7, 1e-4, 0.3, 3.0])
def test_what_all_microphones_do_is_no_fault(level: float) -> None:
    monitor = ChannelMonitor(4)
    mic = np.clip(_sound(2, level=level), -1, 1)
    assert all(all(usable) for usable in _watch(monitor, mic))
    assert monitor.counts == {}


def test_people_nearer_to_one_microphone_are_no_fault() -> None:
    mic = _sound(2) * np.array([[4], [2], [1], [1]], np.float32)
    assert all(all(usable) for usable in _watch(ChannelMonitor(4), mic))


def test_there_is_always_something_to_use() -> None:
    monitor = ChannelMonitor(1)
    mic = np.full((1, 16_000), np.nan, np.float32)
    assert all(all(usable) for usable in _watch(monitor, mic))
    assert monitor.reasons == ("nan",)


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        np.float32, (2, 160), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
    )
)
def test_any_block_gives_a_mask(block: Samples) -> None:
    monitor = ChannelMonitor(2)
    for _ in range(21):
        usable = monitor.process(block)
    assert usable.shape == (2,)
    assert usable.any()


def _spoken(order: list[int]) -> OrderMonitor:
    array = circle(4, 0.032)
    rng = np.random.default_rng(3)
    mic = []
    for azimuth_deg in (10, 75, 160, 300):
        talk = np.repeat(rng.random(120) > 0.5, 400) * rng.standard_normal(48_000)
        steering = array.steering(np.array([azimuth_deg]), scipy.fft.rfftfreq(48_000, 1 / 16_000))
        mic.append(scipy.fft.irfft(scipy.fft.rfft(talk) * steering[0], 48_000))
    wired = np.concatenate(mic, axis=1)[order].astype(np.float32)
    wired += 1e-3 * rng.standard_normal(wired.shape).astype(np.float32)
    doa, monitor, analysis = Doa(array), OrderMonitor(array), Analysis(4)
    for block in np.split(wired, wired.shape[1] // 160, axis=1):
        doa.process(analysis.process(block))
        monitor.process(doa)
    return monitor


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 2, 3, 0]], ids=["right", "turned"])
def test_an_order_that_fits_raises_no_suspicion(order: list[int]) -> None:
    assert _spoken(order).suspicion is None


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [1, 0, 2, 3]])
def test_swapped_microphones_are_suspected(order: list[int]) -> None:
    suspicion = _spoken(order).suspicion
    assert suspicion is not None
    # Undone, what is wired wrongly is the array again, or turned or mirrored.
    positions = circle(4, 0.032).positions_m
    heard_at = positions[np.array(order)][list(suspicion)]
    apart, expected = (
        np.linalg.norm(place[:, None] - place[None], axis=-1) for place in (heard_at, positions)
    )
    np.testing.assert_allclose(apart, expected, atol=1e-9)

"""From device frames to dated, numbered blocks of several channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.framer import BlockFramer

T0 = 3_000_000_000


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_channels_stay_apart_and_samples_in_their_place(rate_hz: int, channels: int) -> None:
    framer = BlockFramer(rate_hz, channels)
    seconds = np.arange(rate_hz) / rate_hz
    tones_hz = 50.0 * np.arange(1, channels + 1)
    frames = np.sin(2 * np.pi * tones_hz * seconds[:, None]).astype(np.float32)
    blocks = [
        block
        for start in range(0, rate_hz, 441)
        for block in framer.push(frames[start : start + 441], T0 + start * 1_000_000_000 // rate_hz)
    ]
    assert len(blocks) >= 97
    assert blocks[50].samples.shape == (channels, 160)
    assert blocks[50].samples.flags.c_contiguous
    np.testing.assert_array_equal([b.position for b in blocks], np.arange(len(blocks)) * 160)
    at_ns = np.array([b.first_sample_ns for b in blocks])
    assert np.abs(at_ns - T0 - np.arange(len(blocks)) * 10_000_000).max() < 31_250
    middle = blocks[50]
    expected = np.sin(2 * np.pi * tones_hz[:, None] * (middle.position + np.arange(160)) / 16_000)
    assert np.abs(middle.samples - expected).max() < 0.16, "two samples at 200 Hz"


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=20), st.sampled_from([16_000, 48_000]))
def test_pieces_of_any_length_give_the_same_blocks(lengths: list[int], rate_hz: int) -> None:
    frames = np.random.default_rng(1).standard_normal((sum(lengths), 2)).astype(np.float32)

    def push_all(cuts: list[int]) -> np.ndarray:
        framer, start, blocks = BlockFramer(rate_hz, 2), 0, []
        for length in cuts:
            at_ns = start * 1_000_000_000 // rate_hz
            blocks += [b.samples for b in framer.push(frames[start : start + length], at_ns)]
            start += length
        return np.array(blocks)

    many, one = push_all(lengths), push_all([sum(lengths)])
    n = min(len(many), len(one))
    assert abs(len(many) - len(one)) <= 2, "the resampler holds back a little more or less"
    if n:
        np.testing.assert_allclose(many[:n], one[:n], atol=1e-6)


def test_numbering_goes_on_where_the_device_stream_does() -> None:
    framer = BlockFramer(48_000, first_frame=480 * 70)
    (block, *_) = framer.push(np.zeros((4_800, 1), np.float32), T0)
    assert (block.position, block.first_sample_ns) == (70 * 160, T0)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_device_that_delivers_no_numbers_is_heard_as_silence(rate_hz: int) -> None:
    framer = BlockFramer(rate_hz, 2)
    frames = np.zeros((rate_hz // 10, 2), np.float32)
    frames[5:9, 1] = [np.nan, np.inf, -np.inf, np.nan]
    blocks = framer.push(frames, 0)
    assert blocks
    assert not any(block.samples.any() for block in blocks)
    assert framer.non_finite_samples == 4

"""Blocks: exact sizes, nothing lost, no copy that is not needed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_SAMPLES, Reblocker


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(1, 200), st.sampled_from([0, 1, 4]))
def test_any_chunks_become_exact_blocks(sizes: list[int], block: int, channels: int) -> None:
    shape = (sum(sizes), channels) if channels else (sum(sizes),)
    stream = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    reblocker = Reblocker(block)
    blocks, position = [], 0
    for size in sizes:
        blocks += list(reblocker.push(stream[position : position + size]))
        position += size
    assert all(len(piece) == block for piece in blocks)
    rest = reblocker.flush()
    held = len(stream) - block * len(blocks)
    if held:
        assert rest is not None
        assert not rest[held:].any()
        blocks.append(rest[:held])
    else:
        assert rest is None
    if blocks:
        np.testing.assert_array_equal(np.concatenate(blocks), stream)
    assert reblocker.held_samples == 0


def test_blocks_within_one_chunk_are_views() -> None:
    chunk = np.zeros(3 * BLOCK_SAMPLES, np.float32)
    blocks = list(Reblocker().push(chunk))
    assert len(blocks) == 3
    assert all(np.shares_memory(piece, chunk) for piece in blocks)

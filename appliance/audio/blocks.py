"""The one audio format inside the appliance: mono float32 at 16 kHz in blocks of 10 ms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio of shape (n,), or frames of shape (n, channels), full scale at ±1."""

RATE_HZ = 16_000
BLOCK_MS = 10
BLOCK_SAMPLES = RATE_HZ * BLOCK_MS // 1000
BLOCK_NS = BLOCK_MS * 1_000_000


class Reblocker:
    """Cuts a stream of chunks of any length into blocks of exactly `block_samples`.

    A block that lies within one chunk is a view of that chunk; only a block across a boundary is
    copied. Works for mono samples (n,) and for frames (n, channels), as long as one stream keeps
    to one of them.
    """

    def __init__(self, block_samples: int = BLOCK_SAMPLES) -> None:
        if block_samples < 1:
            raise ValueError(f"block_samples must be positive, not {block_samples}")
        self._block_samples = block_samples
        self._parts: list[Samples] = []
        self._held = 0

    @property
    def held_samples(self) -> int:
        """Samples that wait for the rest of their block, always fewer than a block."""
        return self._held

    def push(self, chunk: Samples) -> Iterator[Samples]:
        """Take a chunk; give every block that is complete now, in order.

        The chunk must not be changed afterwards. All blocks must be consumed before the next call.
        """
        start = 0
        if self._held:
            start = min(self._block_samples - self._held, len(chunk))
            self._parts.append(chunk[:start])
            self._held += start
            if self._held < self._block_samples:
                return
            block = np.concatenate(self._parts)
            self._parts, self._held = [], 0
            yield block
        whole = start + (len(chunk) - start) // self._block_samples * self._block_samples
        for position in range(start, whole, self._block_samples):
            yield chunk[position : position + self._block_samples]
        if whole < len(chunk):
            self._parts, self._held = [chunk[whole:]], len(chunk) - whole

    def flush(self) -> Samples | None:
        """Give the last, incomplete block padded with zeros, or None if nothing is held."""
        if not self._held:
            return None
        held = np.concatenate(self._parts)
        block = np.zeros((self._block_samples, *held.shape[1:]), np.float32)
        block[: len(held)] = held
        self._parts, self._held = [], 0
        return block

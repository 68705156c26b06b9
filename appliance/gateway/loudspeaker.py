"""From the blocks that are to be played to packets at even times. Pure.

The browser expects a packet every 20 ms and keeps a buffer as deep as they are uneven. Speech is
sent on as soon as a packet is full, a little ahead of its time rather than after it; between
utterances goes silence, in time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples

FRAME_BLOCKS = 2
FRAME_NS = 20_000_000
FRAME_SAMPLES = FRAME_BLOCKS * BLOCK_SAMPLES
_AHEAD_NS = 40_000_000
"""So far before its time a packet may go out."""
_LATE_NS = 60_000_000
"""So long speech is waited for that breaks off, before silence takes its place."""
_HELD_UP_NS = 200_000_000
"""Further behind than this it does not catch up: the stream goes on from now."""
_MOST_BLOCKS = RATE_HZ // BLOCK_SAMPLES
_SILENCE = np.zeros(FRAME_SAMPLES, np.float32)


@dataclass(frozen=True)
class Frame:
    """What one packet carries."""

    samples: Samples
    index: int
    """Its place in the stream, in packets; skips when the stream was held up."""
    spoken: bool
    """Whether there is more in it than silence."""


class LoudspeakerStream:
    """Decides what to send, and when.

    Args:
        now_ns: when the stream begins.
    """

    def __init__(self, now_ns: int) -> None:
        self._origin_ns = now_ns
        self._index = 0
        self._blocks: deque[Samples] = deque()
        self._last_block_ns: int | None = None
        self.dropped_blocks = 0
        self.underruns = 0
        """Times that speech broke off and silence took its place."""

    def push(self, samples: Samples, now_ns: int) -> None:
        """Take a block to be played."""
        self._blocks.append(samples)
        self._last_block_ns = now_ns
        if len(self._blocks) > _MOST_BLOCKS:
            self._blocks.popleft()
            self.dropped_blocks += 1

    def is_playing(self, now_ns: int) -> bool:
        """Whether something was to be played just now, or waits to be sent."""
        last_ns = self._last_block_ns
        return bool(self._blocks) or (last_ns is not None and now_ns - last_ns < _LATE_NS)

    def next(self, now_ns: int) -> Frame | int:
        """The next frame, or when to ask again unless a block comes before."""
        due_ns = self._origin_ns + self._index * FRAME_NS
        if now_ns - due_ns > _HELD_UP_NS:
            self._index = (now_ns - self._origin_ns) // FRAME_NS
            due_ns = self._origin_ns + self._index * FRAME_NS
        if len(self._blocks) >= FRAME_BLOCKS:
            if now_ns < due_ns - _AHEAD_NS:
                return due_ns - _AHEAD_NS
            return self._frame(np.concatenate([self._blocks.popleft(), self._blocks.popleft()]))
        if now_ns < due_ns:
            return due_ns
        if self._last_block_ns is not None:
            given_up_ns = self._last_block_ns + _LATE_NS
            if now_ns < given_up_ns:
                return given_up_ns
            self._last_block_ns = None
        if self._blocks:
            self.underruns += 1
            return self._frame(np.concatenate([self._blocks.popleft(), _SILENCE[BLOCK_SAMPLES:]]))
        return self._frame(_SILENCE, spoken=False)

    def _frame(self, samples: Samples, *, spoken: bool = True) -> Frame:
        index = self._index
        self._index += 1
        return Frame(samples, index, spoken)

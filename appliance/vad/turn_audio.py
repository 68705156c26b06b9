"""The sound of the turn so far, as far as the end-of-turn model hears it. Pure."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples

HEARD_SAMPLES = 8 * RATE_HZ
"""What the model hears at once, a whole number of blocks."""
NEW_TURN_SAMPLES = 3 * RATE_HZ
"""After so much silence nobody goes on with the sentence from before."""


class TurnAudio:
    """Keeps the last 8 s of a stream and where in them the turn began.

    A turn is made of segments of speech: one goes on with it unless the loudspeaker has had its
    say, or 3 s have passed, since the one before.
    """

    def __init__(self) -> None:
        self._samples = np.zeros(HEARD_SAMPLES, np.float32)
        self._end = 0
        self._start = 0
        self._segment_open = False
        self._closed_at: int | None = None
        """Where the turn's latest segment ended; None when the next one begins a turn."""

    def add(self, position: int, block: Samples, *, far_end_active: bool) -> None:
        """Take the block (160,) at ``position``; what was lost before it is silence."""
        lost = range(max(self._end, position - HEARD_SAMPLES), position, BLOCK_SAMPLES)
        for missing in lost:
            at = missing % HEARD_SAMPLES
            self._samples[at : at + BLOCK_SAMPLES] = 0.0
        at = position % HEARD_SAMPLES
        self._samples[at : at + BLOCK_SAMPLES] = block
        self._end = position + BLOCK_SAMPLES
        if far_end_active and not self._segment_open:
            self._closed_at = None

    def begin(self, start: int) -> None:
        """A segment of speech begins at ``start``: a turn does, or it goes on."""
        if self._closed_at is None or start - self._closed_at > NEW_TURN_SAMPLES:
            self._start = start
        self._segment_open = True

    def end(self, position: int) -> None:
        """The segment ended."""
        self._segment_open = False
        self._closed_at = position

    def so_far(self) -> Samples:
        """From the turn's beginning, or the last 8 s of it, to the newest block; a copy."""
        return self.since(self._start)

    def since(self, position: int) -> Samples:
        """From a position, or the last 8 s after it, to the newest block; a copy."""
        first = max(position, self._end - HEARD_SAMPLES, 0)
        if first >= self._end:
            return np.zeros(0, np.float32)
        a, b = first % HEARD_SAMPLES, (self._end - 1) % HEARD_SAMPLES + 1
        parts = [self._samples[a:b]] if a < b else [self._samples[a:], self._samples[:b]]
        return np.concatenate(parts)

    @property
    def newest(self) -> int:
        """One past the newest sample."""
        return self._end

"""A stream's recent past, and reading it between its samples."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, Samples


class History:
    """The last samples of a stream, by their index since its start. Zeros before that.

    Args:
        length: how many samples are kept at least.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._buffer = np.zeros(3 * length, np.float32)
        self._at = length
        self.end = 0
        """Index after the newest sample."""

    def append(self, samples: Samples) -> None:
        """Take the next samples (n,), at most `length` at once."""
        if self._at + len(samples) > len(self._buffer):
            self._buffer[: self.length] = self._buffer[self._at - self.length : self._at]
            self._at = self.length
        self._buffer[self._at : self._at + len(samples)] = samples
        self._at += len(samples)
        self.end += len(samples)

    def window(self, end: int, length: int) -> Samples:
        """The `length` samples before index `end`, as a view."""
        stop = self._at - (self.end - end)
        return self._buffer[stop - length : stop]

    def rewrite(self, samples: Samples) -> None:
        """Replace the newest samples (n,)."""
        self._buffer[self._at - len(samples) : self._at] = samples


class FractionalReader:
    """Reads a stream between its samples: windowed sinc, 80 dB clean up to 7 kHz.

    The interpolation filter of a position comes from a table of fractions (polyphase). Inside a
    block the fraction changes linearly by up to a twelfth of a sample: the filters of the block's
    first, middle and last sample are taken, and every sample lies on the parabola, or the line,
    through the three.
    """

    HALF = 24
    """Samples needed on either side of a position."""
    _BETA = 8.5
    _FRACTIONS = 512
    """Rows of the table per sample; between them it is interpolated, with 100 dB."""
    _REACH = 0.6
    _STRAIGHT = 0.01
    """With so little change of the fraction (60 ppm) the parabola is a line, with 80 dB."""

    def __init__(self) -> None:
        steps = round(self._REACH * self._FRACTIONS)
        fractions = np.arange(-steps, steps + 1)[:, None] / self._FRACTIONS
        distance = np.arange(-self.HALF, self.HALF + 1) - fractions
        inside = 1 - np.square(distance / (self.HALF + 1))
        filters = np.sinc(distance) * np.i0(self._BETA * np.sqrt(inside)) / np.i0(self._BETA)
        self._filters: Samples = filters.astype(np.float32)
        self._middle = steps
        self._along: Samples = np.linspace(-1, 1, BLOCK_SAMPLES, dtype=np.float32)

    def _filter(self, fraction: float) -> Samples:
        row = fraction * self._FRACTIONS + self._middle
        whole = int(row)
        lower, upper = self._filters[whole], self._filters[whole + 1]
        between: Samples = lower + np.float32(row - whole) * (upper - lower)
        return between

    def read(self, history: History, first: float, last: float) -> Samples:
        """A block (160,) whose first and last sample lie at these indices of the history."""
        span = BLOCK_SAMPLES - 1
        middle = (first + last - span) / 2
        whole = round(middle)
        around = history.window(whole + span + self.HALF + 1, span + 2 * self.HALF + 1)
        centre = self._filter(middle - whole)
        block: Samples = np.correlate(around, centre)
        change = last - first - span
        if change:
            before, after = self._filter(first - whole), self._filter(last - span - whole)
            moving = np.correlate(around, (after - before) * np.float32(0.5))
            if abs(change) > self._STRAIGHT:
                bent = np.correlate(around, (before + after) * np.float32(0.5) - centre)
                bent *= self._along
                moving += bent
            moving *= self._along
            block += moving
        return block

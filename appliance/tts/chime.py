"""The sound of a timer or an alarm that rings: two soft notes, again and again. Pure."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import Samples
from appliance.tts.tones import note

_LOW_HZ, _HIGH_HZ = 784.0, 1046.5
"""G5, C6: a fourth upwards, as a question that waits; small loudspeakers play both well."""
_PATTERN_MS = ((0, _LOW_HZ), (190, _HIGH_HZ), (560, _LOW_HZ), (750, _HIGH_HZ))
_PERIOD_MS = 2_000
_NOTE_MS, _DECAY_MS = 600, 140
_DOWN_MS, _UP_MS = 15.0, 250.0
"""How long it takes from full level to nothing, and back."""
_LONGEST_S = 600.0
"""Whoever has not heard it by now is not there."""


class Chime:
    """A loop that is mixed over whatever is played; silent until `start`.

    Args:
        rate_hz: rate of the blocks.
        longest_s: after so long it falls silent by itself.
    """

    def __init__(self, rate_hz: int, longest_s: float = _LONGEST_S) -> None:
        self.rate_hz = rate_hz
        self._loop = _pattern(rate_hz)
        self._longest = round(rate_hz * longest_s)
        self._down = 1000 / (_DOWN_MS * rate_hz)
        self._up = 1000 / (_UP_MS * rate_hz)
        self._steps = np.zeros(0, np.float32)
        self._position = 0
        self._left = 0
        """Samples until it has rung for the longest."""
        self._level = self._target = 0.0
        self.is_sounding = False
        """Whether `mix` adds anything, its rests included."""

    def start(self, gain: float) -> None:
        """Ring at this amplitude, 0 to 1; from the first note on unless it sounds already."""
        if not self.is_sounding:
            self._position, self._level = 0, gain
        self._target = gain
        self._left = self._longest
        self.is_sounding = True

    def ramp(self, gain: float) -> None:
        """Go to another amplitude, at once downwards, gently back. Does not start it."""
        if self._left > 0:
            self._target = gain

    def stop(self) -> None:
        """Fade out within 15 ms."""
        self._left, self._target = 0, 0.0

    def mix(self, block: Samples | None, frames: int) -> Samples | None:
        """Add the next `frames` samples to a block, in place; None is silence, as it was before."""
        if not self.is_sounding:
            return block
        self._left -= frames
        if self._left <= 0:
            self._target = 0.0
        before = self._level
        lowest, highest = before - self._down * frames, before + self._up * frames
        self._level = min(highest, max(lowest, self._target))
        sound = self._next(frames) * self._envelope(before, frames)
        self.is_sounding = self._left > 0 or self._level > 0
        if block is None:
            return sound
        block += sound
        return np.clip(block, -1.0, 1.0, out=block)

    def _envelope(self, before: float, frames: int) -> float | Samples:
        if before == self._level:
            return before
        if len(self._steps) != frames:
            self._steps = np.arange(1, frames + 1, dtype=np.float32) / np.float32(frames)
        envelope: Samples = before + (self._level - before) * self._steps
        return envelope

    def _next(self, frames: int) -> Samples:
        end = self._position + frames
        if end <= len(self._loop):
            sound = self._loop[self._position : end]
        else:
            sound = self._loop.take(np.arange(self._position, end), mode="wrap")
        self._position = end % len(self._loop)
        return sound


def _pattern(rate_hz: int) -> Samples:
    """One period, shape (n,), peak below -10 dBFS."""
    loop = np.zeros(rate_hz * _PERIOD_MS // 1000, np.float32)
    for start_ms, frequency_hz in _PATTERN_MS:
        struck = note(frequency_hz, rate_hz, length_ms=_NOTE_MS, decay_ms=_DECAY_MS)
        start = rate_hz * start_ms // 1000
        loop[start : start + len(struck)] += struck
    loop *= 10 ** (-10.5 / 20) / float(np.abs(loop).max())
    return loop

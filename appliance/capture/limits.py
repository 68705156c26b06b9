"""What comes in and goes out of the front-end is bounded, whatever the hardware delivers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples

_CLIPPED = 1 - 1.5 / 32768  # full scale of a 16-bit converter, either sign
_MEMORIES = 3
_NOTHING = 1e-9
"""A filter with less in its memories is at rest: silence stays silence."""
_DC_SMOOTHING = 0.05
_MEMORY_BLOCKS = 25
_SILENCE = 1e-9
"""Mean square that a stage's rounding may add to digital silence (-90 dBFS)."""


@dataclass
class Faults:
    """How much was wrong with what came in, since the start."""

    nan_samples: int = 0
    """Not a number, or infinite; replaced by zero."""
    excess_samples: int = 0
    """Beyond full scale by more than rounding; clipped."""
    clipped_samples: int = 0
    """At full scale."""
    dc_blocks: int = 0
    """Blocks in which a microphone had a constant offset of more than 2 % of full scale."""


class Sanitizer:
    """Microphone blocks that the other stages can rely on: finite, within ±1, without offset.

    A Butterworth high-pass of the second order, the same for every channel, so that it changes
    nothing between them. Use one for the far-end reference too: what is taken from the microphones
    alone would have to be learnt by the echo canceller. No latency; 8 µs of CPU per block of four.

    Args:
        channels: of the stream.
        cutoff_hz: of the high-pass (-3 dB). 70 Hz takes offset and mains hum, and less than
            0.5 dB at 120 Hz, the lowest voices.
    """

    DC_LIMIT = 0.02

    def __init__(self, channels: int, *, cutoff_hz: float = 70.0) -> None:
        self.faults = Faults()
        self._high_pass = _block_high_pass(cutoff_hz)
        self._input = np.zeros((channels, BLOCK_SAMPLES + _MEMORIES), np.float32)
        """A block and the filter's memories."""
        self._rests = True

    @property
    def offset(self) -> NDArray[np.float32]:
        """The constant offset of each channel over the last 0.2 s, in full scales."""
        return self._input[:, -1]

    def process(self, block: Samples) -> Samples:
        """Return the block (channels, 160) without faults, counting them."""
        peak = np.abs(block).max()
        if peak == 0.0 and self._rests:
            return block
        if not peak < _CLIPPED:  # also when the peak is not a number
            block = self._bounded(block)
        self._input[:, :BLOCK_SAMPLES] = block
        output = self._input @ self._high_pass
        memories = output[:, BLOCK_SAMPLES:]
        self._input[:, BLOCK_SAMPLES:] = memories
        self._rests = peak == 0.0 and bool(np.abs(memories).max() < _NOTHING)
        self.faults.dc_blocks += max(map(abs, memories[:, -1].tolist())) > self.DC_LIMIT
        result: Samples = output[:, :BLOCK_SAMPLES]
        return result

    def _bounded(self, block: Samples) -> Samples:
        finite = np.isfinite(block)
        self.faults.nan_samples += block.size - int(np.count_nonzero(finite))
        block = np.where(finite, block, np.float32(0))
        magnitude = np.abs(block)
        excess = int(np.count_nonzero(magnitude > 2 - _CLIPPED))
        self.faults.excess_samples += excess
        self.faults.clipped_samples += int(np.count_nonzero(magnitude >= _CLIPPED)) - excess
        bounded: Samples = np.clip(block, -1.0, 1.0)
        return bounded


@cache
def _block_high_pass(cutoff_hz: float) -> Samples:
    """The filter over a block as one matrix, many times as fast as sample by sample.

    From a block and the memories (163,) to the filtered block and the memories after it (163,). The
    filter is its direct path and one complex pole (the other is its conjugate), whose output's real
    and imaginary part it remembers: in that form single precision is enough. The third memory is
    the mean of the blocks, smoothed.
    """
    # The bilinear transform of the Butterworth prototype by hand: importing scipy.signal would
    # more than double the time in which a restarted capture process can hear again.
    k = np.tan(np.pi * cutoff_hz / RATE_HZ)
    scale = 1 / (1 + np.sqrt(2) * k + k * k)
    a1, a2 = 2 * scale * (k * k - 1), scale * (1 - np.sqrt(2) * k + k * k)
    pole = (-a1 + 1j * np.sqrt(4 * a2 - a1 * a1)) / 2
    direct = scale / a2
    residue = ((scale - direct) * pole - 2 * scale - direct * a1) / (1j * pole.imag)
    samples = np.arange(BLOCK_SAMPLES)
    lag = samples - samples[:, None]
    matrix = np.zeros((BLOCK_SAMPLES + _MEMORIES,) * 2)
    block, real, imaginary, mean = slice(BLOCK_SAMPLES), *range(BLOCK_SAMPLES, len(matrix))
    matrix[block, block] = np.where(lag < 0, 0, residue * pole ** np.maximum(lag, 0)).real
    matrix[samples, samples] += direct
    decay = pole ** (samples + 1)
    matrix[real, block], matrix[imaginary, block] = decay.real, -decay.imag
    arriving = residue * pole ** samples[::-1]
    matrix[block, real], matrix[block, imaginary] = arriving.real, arriving.imag
    last = decay[-1]
    matrix[real, [real, imaginary]] = last.real, last.imag
    matrix[imaginary, [real, imaginary]] = -last.imag, last.real
    matrix[block, mean] = _DC_SMOOTHING / BLOCK_SAMPLES
    matrix[mean, mean] = 1 - _DC_SMOOTHING
    return matrix.astype(np.float32)


class OutputGuard:
    """The last stage: nothing that is not finite, beyond ±1, or too loud for what was heard.

    A block may be `max_gain_db` louder (mean square) than the loudest microphone within the last
    250 ms, which is more than the chain's latency. A stage that runs away is turned down at once,
    and up again over 10 ms when it has recovered.

    Args:
        max_gain_db: the largest gain of the automatic gain control.
    """

    def __init__(self, max_gain_db: float) -> None:
        self.guarded_blocks = 0
        """Blocks that had to be changed."""
        self._max_gain = 10 ** (max_gain_db / 10)
        self._heard: deque[float] = deque([0.0], maxlen=_MEMORY_BLOCKS)
        self._gain = 1.0

    def process(self, block: Samples, mic: Samples) -> Samples:
        """Return the block (160,) that may go out.

        Args:
            block: what the last stage gave.
            mic: shape (channels, 160), what the `Sanitizer` gave meanwhile.
        """
        self._heard.append(max(np.einsum("ij,ij->i", mic, mic).tolist()) / mic.shape[1])
        allowed = self._max_gain * max(self._heard) + _SILENCE
        wide = block.astype(np.float64)  # the square of the largest float32 is beyond float32
        energy = float(np.dot(wide, wide))
        level = energy / len(block)
        bounded = energy <= 1.0 or np.abs(block).max() <= 1.0
        if self._gain == 1.0 and level <= allowed and bounded:
            return block
        self.guarded_blocks += 1
        if not np.isfinite(level):
            self._gain = 0.0
            return np.zeros_like(block)
        gain = min(1.0, float(np.sqrt(allowed / level)) if level > 0 else 1.0)
        ramp = np.linspace(min(self._gain, gain), gain, len(block), dtype=np.float32)
        self._gain = gain
        lowered: Samples = np.clip(block * ramp, -1.0, 1.0)
        return lowered

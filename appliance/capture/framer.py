"""From what a device delivers to dated blocks of 10 ms at 16 kHz. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Reblocker, Samples
from appliance.audio.resample import StreamResampler

NS_PER_SAMPLE = 1_000_000_000 // RATE_HZ


@dataclass(frozen=True, slots=True)
class DatedBlock:
    """One block of a device stream."""

    first_sample_ns: int
    """When its first sample was at the device, CLOCK_MONOTONIC."""
    position: int
    """Index of its first sample in the device stream, in samples at 16 kHz."""
    samples: Samples
    """Shape (channels, 160)."""


class BlockFramer:
    """Resamples each channel to 16 kHz, cuts 10 ms blocks, dates and numbers each of them.

    Args:
        rate_hz: rate of the device.
        channels: of the device frames.
        first_frame: index of the first frame that will be pushed, in its device stream.
    """

    def __init__(self, rate_hz: int, channels: int = 1, first_frame: int = 0) -> None:
        self._rate_hz = rate_hz
        self._resampler = StreamResampler(rate_hz, RATE_HZ, channels)
        self._reblocker = Reblocker()
        self._position = round(first_frame * RATE_HZ / rate_hz)
        self.non_finite_samples = 0
        """Samples that were no numbers; silence stands in their place."""

    def push(self, frames: Samples, first_sample_ns: int) -> list[DatedBlock]:
        """Take device frames of shape (n, channels); give the blocks that are complete now."""
        finite = np.isfinite(frames)
        if not finite.all():  # one such sample would deafen all that comes after
            self.non_finite_samples += frames.size - int(np.count_nonzero(finite))
            frames = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
        resampled = self._resampler.push(frames).reshape(-1, frames.shape[1])
        end_ns = (
            first_sample_ns
            + len(frames) * 1_000_000_000 // self._rate_hz
            - round(self._resampler.held_ms * 1e6)
        )
        blocks = list(self._reblocker.push(resampled))
        left = self._reblocker.held_samples + len(blocks) * BLOCK_SAMPLES
        dated = []
        for block in blocks:
            dated.append(
                DatedBlock(
                    end_ns - left * NS_PER_SAMPLE, self._position, np.ascontiguousarray(block.T)
                )
            )
            self._position += BLOCK_SAMPLES
            left -= BLOCK_SAMPLES
        return dated

"""From what a device delivers to the blocks of the mic ring. Pure."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import RATE_HZ, Reblocker, Samples
from appliance.audio.resample import StreamResampler

_NS_PER_SAMPLE = 1_000_000_000 // RATE_HZ


class BlockFramer:
    """Mixes the channels, resamples to 16 kHz, cuts 10 ms blocks and dates each of them."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = StreamResampler(rate_hz, RATE_HZ)
        self._reblocker = Reblocker()

    def push(self, frames: Samples, first_sample_ns: int) -> list[tuple[int, Samples]]:
        """Take device frames of shape (n, channels).

        Returns:
            Blocks of shape (160,), each with the time its first sample was at the microphone.
        """
        mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():  # one such sample would deafen vad's network for ever
            mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
        resampled = self._resampler.push(mono)
        end_ns = (
            first_sample_ns
            + len(frames) * 1_000_000_000 // self._rate_hz
            - round(self._resampler.held_ms * 1e6)
        )
        blocks = list(self._reblocker.push(resampled))
        left = self._reblocker.held_samples
        dated = []
        for block in reversed(blocks):
            left += len(block)
            dated.append((end_ns - left * _NS_PER_SAMPLE, block))
        return dated[::-1]

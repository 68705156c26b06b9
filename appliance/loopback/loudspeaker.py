"""A loudspeaker that is not ideal: it distorts, is late, and its clock is not the microphone's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from appliance.audio.blocks import Samples


@dataclass(frozen=True)
class Loudspeaker:
    """What happens between the far-end samples and the air.

    Args:
        drift_ppm: how much the echo falls behind, in microseconds per second; negative ones eat
            into the delay.
        delay_ms: delay that no time-stamp knows of.
        clip_level: amplitude that a hyperbolic tangent does not exceed; None for none.
    """

    drift_ppm: float = 0.0
    delay_ms: float = 0.0
    clip_level: float | None = None


class LoudspeakerStream:
    """Plays a mono stream through a `Loudspeaker`, block by block.

    With drift the delay is at least the latency of the resampler, some 13 ms.
    """

    def __init__(self, loudspeaker: Loudspeaker, rate_hz: int) -> None:
        self._clip_level = loudspeaker.clip_level
        self._resampler = (
            soxr.ResampleStream(
                rate_hz, rate_hz * (1 + loudspeaker.drift_ppm * 1e-6), 1, dtype="float32", vr=True
            )
            if loudspeaker.drift_ppm
            else None
        )
        self._waiting = np.zeros(round(loudspeaker.delay_ms * rate_hz / 1000), np.float32)

    def process(self, block: Samples) -> Samples:
        """One block (n,) in, one of the same length out."""
        n = len(block)
        if self._clip_level is not None:
            block = self._clip_level * np.tanh(block / self._clip_level)
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block)
        waiting = np.concatenate([self._waiting, block])
        if len(waiting) < n:  # the resampler fills up, or a negative drift has used the delay up
            waiting = np.concatenate([np.zeros(n - len(waiting), np.float32), waiting])
        self._waiting = waiting[n:]
        return waiting[:n]

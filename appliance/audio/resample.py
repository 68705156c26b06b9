"""Resampling of endless streams with soxr."""

from __future__ import annotations

import numpy as np
import soxr

from appliance.audio.blocks import Samples


class StreamResampler:
    """Resamples one live stream chunk by chunk; what it gives joins without a seam.

    soxr's fixed-rate engines filter by large Fourier blocks: between 48 and 16 kHz they hold back
    up to 37 ms and then give several blocks at once. Its variable-rate engine (fixed here) holds
    back a constant 12.5 ms and gives one block for each block, at 21 µs per channel and 10 ms;
    flat to 7.5 kHz, aliases below -113 dB. Its ratio can also follow a drifting clock.

    Args:
        rate_in_hz: rate of what is pushed.
        rate_out_hz: rate of what comes back.
        channels: 1 for samples of shape (n,), more for frames of shape (n, channels).

    Equal rates cost nothing: chunks come back as they are.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, channels: int = 1) -> None:
        self._stream = (
            None
            if rate_in_hz == rate_out_hz
            else soxr.ResampleStream(rate_in_hz, rate_out_hz, channels, dtype="float32", vr=True)
        )
        self._rate_in_hz, self._rate_out_hz = rate_in_hz, rate_out_hz
        self._pushed = self._given = 0

    @property
    def held_ms(self) -> float:
        """Signal that went in and has not come out yet; the stream's latency, in milliseconds.

        Sample k that came out lies at time k / rate_out_hz of the stream that went in, so a block
        that comes out now began `held_ms` plus its own length before the end of what was pushed.
        """
        return 1000 * (self._pushed / self._rate_in_hz - self._given / self._rate_out_hz)

    def push(self, chunk: Samples, *, last: bool = False) -> Samples:
        """Take a chunk of any length, give what is ready; with `last` all the rest."""
        if self._stream is None:
            return chunk
        result: Samples = self._stream.resample_chunk(np.ascontiguousarray(chunk), last=last)
        self._pushed += len(chunk)
        self._given += len(result)
        return result

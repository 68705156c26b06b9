"""Short-time spectra of blocks, and back. Pure."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples

Spectra = NDArray[np.complex64]
"""Shape (channels, `BINS`), or (`BINS`,) for one channel."""

WINDOW_SAMPLES = 2 * BLOCK_SAMPLES
BINS = BLOCK_SAMPLES + 1
BIN_HZ = RATE_HZ / WINDOW_SAMPLES
LATENCY_SAMPLES = BLOCK_SAMPLES
"""What `Synthesis` gives lags what `Analysis` took by so much."""

# The periodic root-Hann window: its square, overlapped by half, adds up to one.
_WINDOW = np.sin(np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES).astype(np.float32)


class Analysis:
    """Spectra of the last 20 ms of each channel, every 10 ms."""

    def __init__(self, channels: int) -> None:
        self._frames = np.zeros((channels, WINDOW_SAMPLES), np.float32)

    def process(self, block: Samples) -> Spectra:
        """Take a block (channels, 160); give its spectra (channels, 161)."""
        self._frames[:, :BLOCK_SAMPLES] = self._frames[:, BLOCK_SAMPLES:]
        self._frames[:, BLOCK_SAMPLES:] = block
        spectra: Spectra = scipy.fft.rfft(self._frames * _WINDOW, axis=-1)
        return spectra


class Synthesis:
    """One channel by overlap-add."""

    def __init__(self) -> None:
        self._tail = np.zeros(BLOCK_SAMPLES, np.float32)

    def process(self, spectrum: Spectra) -> Samples:
        """Take a spectrum (161,); give the block (160,) before the last one that went in."""
        frame: Samples = scipy.fft.irfft(spectrum, WINDOW_SAMPLES) * _WINDOW
        block: Samples = self._tail + frame[:BLOCK_SAMPLES]
        self._tail = frame[BLOCK_SAMPLES:]
        return block

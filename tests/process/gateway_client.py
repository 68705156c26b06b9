"""What the tests of gateway share: the bench's browser, and where something is in what came."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import Samples
from appliance.bench.sessions_browser import Browser, Voice, request

__all__ = ["Browser", "Voice", "place_of", "request"]


def place_of(reference: Samples, heard: Samples) -> tuple[int, float]:
    """Where the reference begins in what was heard, and how alike they are (0 to 1)."""
    size = 1 << (len(reference) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(reference, size))
    correlation = np.fft.irfft(spectrum, size)[: len(heard)]
    at = int(np.argmax(correlation))
    part = heard[at : at + len(reference)]
    norm = float(np.linalg.norm(part) * np.linalg.norm(reference[: len(part)]))
    return at, float(correlation[at]) / norm if norm else 0.0

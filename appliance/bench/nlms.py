"""The textbook echo canceller that the front-end is compared with."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from appliance.audio.blocks import Samples


def nlms(
    mic: Samples, far: Samples, *, taps: int = 2048, step: float = 0.5, floor: float = 1e-3
) -> Samples:
    """Cancel the echo of `far` (n,) in one microphone (n,) by normalised least mean squares.

    Sample by sample, always adapting, without a double-talk detector (Haykin, Adaptive Filter
    Theory, chapter 6); without latency.

    Args:
        mic: the microphone.
        far: what was played, on the microphone's clock.
        taps: length of the filter; 2048 are 128 ms.
        step: of adaptation, 0 to 2.
        floor: added to the energy of the far-end within the filter.
    """
    padded = np.concatenate([np.zeros(taps - 1, np.float32), far])
    windows = sliding_window_view(padded, taps)
    squared = np.cumsum(np.square(np.append(np.zeros(1), padded), dtype=np.float64))
    rates = step / (squared[taps:] - squared[:-taps] + floor)
    weights = np.zeros(taps, np.float32)
    output = np.empty_like(mic)
    for index, (window, rate) in enumerate(zip(windows, rates.astype(np.float32), strict=True)):
        error = mic[index] - weights @ window
        output[index] = error
        weights += (rate * error) * window
    return output

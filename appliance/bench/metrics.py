"""What the audio front-end is judged by. All signals are 16 kHz; pure functions."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import RATE_HZ, Samples

_ACTIVE_WITHIN_DB = 25.0


def active_rms(samples: Samples) -> float:
    """RMS of a signal (n,) while somebody speaks; 0 for silence.

    Speaking is every 20 ms within 25 dB of the loudest (95th percentile of those with sound).
    """
    frame = RATE_HZ // 50
    whole = len(samples) // frame * frame
    power = np.square(samples[:whole].reshape(-1, frame), dtype=np.float64).mean(axis=1)
    power = power[power > 0]
    if not len(power):
        return 0.0
    active = power > np.percentile(power, 95) * 10 ** (-_ACTIVE_WITHIN_DB / 10)
    return float(np.sqrt(power[active].mean()))

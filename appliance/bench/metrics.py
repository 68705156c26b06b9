"""What the audio front-end is judged by. Pure; signals are mono, 16 kHz, of equal length.

`reference` is the user alone, as he arrives at microphone 0 with the room around him: `Scene.near`
(its first channel). None of the measures minds a constant gain of the estimate, except `erle_db`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import correlate, fftconvolve

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.errors import ApplianceError

DISTORTION_TAPS = 512
"""What `filtered_sdr_db` allows: 32 ms."""

_ACTIVE_WITHIN_DB = 25.0
_LARGEST_DB = 100.0


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


def erle_db(mic: Samples, output: Samples) -> float:
    """Echo return loss enhancement: energy of the microphone over that of the output.

    Means something only where nothing but the far-end sounds. Minds gain: judge without AGC.
    """
    return _ratio_db(_energy(mic), _energy(output))


def erle_track_db(mic: Samples, output: Samples, window_s: float = 1.0) -> NDArray[np.float64]:
    """`erle_db` of every whole window, one after the other."""
    window = round(window_s * RATE_HZ)
    count = min(len(mic), len(output)) // window
    return np.array(
        [
            erle_db(mic[start : start + window], output[start : start + window])
            for start in range(0, count * window, window)
        ]
    )


def si_sdr_db(reference: Samples, estimate: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., 2019): one gain is allowed.

    Everything else counts as distortion: noise, echo, and also a beam that dereverberates.
    """
    return _projected_sdr_db(reference, estimate, 1)


def filtered_sdr_db(reference: Samples, estimate: Samples, taps: int = DISTORTION_TAPS) -> float:
    """Signal-to-distortion ratio as in BSS Eval (Vincent et al., 2006).

    A filter of `taps` samples, half of them before the present one, is allowed: a beam that hears
    the user by another path than microphone 0 is not punished for it.
    """
    return _projected_sdr_db(reference, estimate, taps)


def sinr_gain_db(target: Samples, mixture: Samples, output: Samples) -> float:
    """How much more of the output than of the mixture is the target, as a ratio to all the rest.

    The target in the output is what a filter of 32 ms makes of it (see `filtered_sdr_db`), so that
    the processor need not be linear.

    Args:
        target: the user at microphone 0.
        mixture: microphone 0.
        output: what was made of it.
    """
    before = _ratio_db(_energy(target), _energy(mixture - target))
    return filtered_sdr_db(target, output) - before


def stoi(reference: Samples, estimate: Samples) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), 0 to 1, against the reference.

    Raises:
        ApplianceError: pystoi is not installed (it comes with the development tools).
    """
    try:
        from pystoi import stoi as measure
    except ImportError as error:
        raise ApplianceError(
            "Measuring intelligibility needs pystoi: install the development dependencies."
        ) from error
    return float(measure(reference, estimate, RATE_HZ))


def angle_error_deg(estimate_deg: float, truth_deg: float) -> float:
    """Angle between two azimuths, 0 to 180."""
    return abs((estimate_deg - truth_deg + 180) % 360 - 180)


def _projected_sdr_db(reference: Samples, estimate: Samples, taps: int) -> float:
    """Least squares of the estimate on `taps` shifted copies of the reference."""
    ahead = taps // 2
    wanted = np.asarray(reference, np.float64)
    signal = np.asarray(estimate, np.float64)
    if not wanted.any() or not signal.any():
        return -_LARGEST_DB
    middle = len(wanted) - 1
    own = correlate(wanted, wanted, method="fft")[middle : middle + taps]
    own[0] *= 1 + 1e-9  # what of a band-limited signal has no energy stays solvable
    cross = correlate(signal, wanted, method="fft")[middle - ahead : middle - ahead + taps]
    solved = solve_toeplitz(own, cross)
    projected = fftconvolve(wanted, solved)[ahead : ahead + len(wanted)]
    return _ratio_db(_energy(projected), _energy(signal - projected))


def _energy(samples: NDArray[np.floating]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def _ratio_db(above: float, below: float) -> float:
    if above <= 0:
        return -_LARGEST_DB if below > 0 else 0.0
    if below <= 0:
        return _LARGEST_DB
    return float(np.clip(10 * np.log10(above / below), -_LARGEST_DB, _LARGEST_DB))

"""One loudness for everything a voice says, and no clipping. Pure.

Loudness is that of ITU-R BS.1770-4 (K-weighting, 400 ms blocks, absolute and relative gate) rather
than a plain RMS, because two voices, or a voice through another model, should sound equally loud.
The weighting is applied to the blocks' spectra: the same figure as with filters, without importing
`scipy.signal`, which would cost half of the time a restarted tts process has.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from appliance.tts.engine import Audio

_BLOCK_MS = 400
_HOP_MS = 100
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_HOLD_MS, _SMOOTH_MS = 5, 2
LIMITER_REACH_MS = _HOLD_MS + _SMOOTH_MS + 1
"""How far a peak turns down what is around it; the last one is the interpolation's."""

# BS.1770-4, tables 1 and 2: head (high shelf) and RLB (high pass), for 48 kHz.
_SHELF = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),
    (-1.69065929318241, 0.73248077421585),
)
_HIGH_PASS = ((1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621))


def loudness_lufs(audio: Audio, rate_hz: int) -> float:
    """Integrated loudness of mono speech in LUFS; `-inf` when it is all below the gate.

    Args:
        audio: samples in [-1, 1], shape (n,). Shorter than a 400 ms block, it is one block.
        rate_hz: at least 8000; content above the Nyquist frequency does not count, of course.
    """
    if audio.size == 0:
        return -np.inf
    length = min(audio.size, rate_hz * _BLOCK_MS // 1000)
    hop = max(1, rate_hz * _HOP_MS // 1000)
    blocks = np.lib.stride_tricks.sliding_window_view(audio, length)[::hop]
    spectrum = np.fft.rfft(blocks, axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2) * _weights(length, rate_hz)
    lufs = _to_lufs(power.sum(axis=-1))
    loud = lufs[lufs > _ABSOLUTE_GATE_LUFS]
    if loud.size == 0:
        return -np.inf
    loud = loud[loud > _mean_lufs(loud) + _RELATIVE_GATE_LU]
    return _mean_lufs(loud)


class LoudnessNormaliser:
    """A slow gain toward one loudness, moving between sentences and never within one.

    What counts is the running loudness of the last `memory_s` of speech, so that a quiet sentence
    stays quieter than its neighbours. It starts from what the voice is expected to have, so that a
    first "Yes." is not stretched to a level of its own.

    Args:
        rate_hz: of all speech.
        target_lufs: where the running loudness goes.
        expected_lufs: loudness of the voice as its engine renders it, roughly.
        expected_s: seconds of speech that the expectation counts for.
        memory_s: seconds of speech that are remembered.
        max_gain_db: most amplification.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        target_lufs: float = -20.0,
        expected_lufs: float = -25.0,
        expected_s: float = 2.0,
        memory_s: float = 20.0,
        max_gain_db: float = 20.0,
    ) -> None:
        self._rate_hz = rate_hz
        self._target_lufs = target_lufs
        self._memory_s = memory_s
        self._max_gain_db = max_gain_db
        self._power = _power(expected_lufs)
        self._weight_s = expected_s

    @property
    def gain_db(self) -> float:
        """The present gain."""
        return min(self._max_gain_db, self._target_lufs - float(_to_lufs(self._power)))

    def learn(self, speech: Audio) -> None:
        """Take a sentence as its engine rendered it, shape (n,), into account."""
        lufs = loudness_lufs(speech, self._rate_hz)
        if np.isfinite(lufs):
            seconds = speech.size / self._rate_hz
            total_s = self._weight_s + seconds
            self._power = (self._power * self._weight_s + _power(lufs) * seconds) / total_s
            self._weight_s = min(total_s, self._memory_s)


def limit(audio: Audio, rate_hz: int, *, ceiling_db: float = -1.0) -> Audio:
    """Keep every sample within the ceiling (dBFS), turning the level down smoothly around peaks.

    The gain is found per millisecond, held 5 ms before and after a peak, smoothed, and
    interpolated: each sample is divided at least as much as its own millisecond needs. What lies
    further than `LIMITER_REACH_MS` from a sample does not matter to it.
    """
    ceiling = 10 ** (ceiling_db / 20)
    if audio.size == 0 or np.abs(audio).max() <= ceiling:
        return audio
    step = max(1, rate_hz // 1000)
    n_steps = -(-audio.size // step)
    padded = np.pad(np.abs(audio), (0, n_steps * step - audio.size))
    peaks = padded.reshape(n_steps, step).max(axis=1)
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, ceiling))
    held = np.lib.stride_tricks.sliding_window_view(
        np.pad(needed, _HOLD_MS + _SMOOTH_MS, constant_values=1.0), 2 * _HOLD_MS + 1
    ).min(axis=-1)
    gain = np.convolve(held, np.full(2 * _SMOOTH_MS + 1, 1 / (2 * _SMOOTH_MS + 1)), "valid")
    centres = (np.arange(n_steps) + 0.5) * step
    per_sample = np.interp(np.arange(audio.size), centres, gain)
    limited = audio * per_sample.astype(np.float32)
    return np.clip(limited, -ceiling, ceiling)  # only the rounding of float32 is cut here


@functools.lru_cache(maxsize=32)
def _weights(length: int, rate_hz: int) -> npt.NDArray[np.float64]:
    """Factors from an rfft's squared magnitudes to K-weighted mean squares, shape (bins,)."""
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(length, 1 / rate_hz) / 48_000)
    response = np.ones_like(delay)
    for (b0, b1, b2), (a1, a2) in (_SHELF, _HIGH_PASS):
        response *= (b0 + b1 * delay + b2 * delay**2) / (1 + a1 * delay + a2 * delay**2)
    # Parseval: the bins between 0 and Nyquist stand for two.
    count = np.full(delay.size, 2.0)
    count[0] = 1.0
    if length % 2 == 0:
        count[-1] = 1.0
    weights: npt.NDArray[np.float64] = np.abs(response) ** 2 * count / length**2
    return weights


def _to_lufs(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = -0.691 + 10 * np.log10(np.maximum(power, 1e-12))
    return result


def _power(lufs: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 10 ** ((np.asarray(lufs, dtype=np.float64) + 0.691) / 10)


def _mean_lufs(lufs: npt.NDArray[np.float64]) -> float:
    return float(_to_lufs(_power(lufs).mean()))

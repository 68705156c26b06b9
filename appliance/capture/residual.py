"""Suppression of what the linear canceller leaves of the echo, aware of the near-end. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.capture.spectral import BINS, Spectra

Floats = NDArray[np.float32]

_TINY = np.float32(1e-12)
_NEPER_PER_DB = np.float32(np.log(10) / 10)
_SILENCE = 1e-8
"""Power per bin below which there is no echo."""
_USUAL_STEP = 0.005
_PAUSE, _PAUSE_BLOCKS = 0.003, 10
"""Share of its usual power below which the echo pauses, and how long until the room has too: what
is heard from then on is noise."""
_FLOOR_STEP = np.float32(0.15)
_FLOOR_BLOCKS, _SETTLED_BLOCKS = 300, 20
_NOTHING = 1e-7
"""Summed power of a block that is no noise, but a microphone that is not open or muted."""
_LOWEST_BIN = 1
"""Nobody speaks below 25 Hz, but there a loudspeaker that distorts shifts the pressure."""
_MARGIN = 1e-3
"""Bins in which the echo is weaker than this share of its mean say nothing about its residue."""


@dataclass(frozen=True, kw_only=True)
class ResidualSettings:
    """Of the suppressor."""

    leakage_db: float = -10.0
    """Residual echo against echo before anything is known."""
    rise_db: float = 0.35
    """Largest step up of the leakage estimate, per block; it rests while the near-end speaks."""
    fall_db: float = 0.12
    """Step down for each 2 dB of deviation (three steps at most)."""
    decay: float = 0.7
    """Share of the echo's power that is still to come in the next block."""
    oversuppression: float = 3.0
    """By how much the residual echo is taken for stronger while only the far-end speaks."""
    prior_smoothing: float = 0.9
    """Of the decision-directed near-end estimate."""
    far_floor_db: float = -30.0
    """Lowest gain while only the far-end speaks."""
    near_floor_db: float = -9.0
    """Lowest gain while the near-end speaks."""
    hold: float = 0.9
    """How much of the belief that the near-end speaks is left after a block."""


def _smoother(width: int) -> Floats:
    """Matrix (161, 161) that averages so many neighbouring bins."""
    near = np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS))) <= width // 2
    matrix: Floats = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


_SMOOTHER = _smoother(5)


class ResidualSuppressor:
    """A Wiener gain per bin against the echo that the linear canceller has left.

    The residual echo's power is the estimated echo's times a leakage per bin. The leakage follows
    a low quantile of error over echo, in decibels, and only while the near-end is silent, so that
    the user is not taken for residue. What the canceller says that it cannot cancel is added. The
    gain follows the decision-directed signal-to-echo ratio (Ephraim and Malah 1984; Enzner and
    Vary 2006); over-suppression and its floor depend on whether the near-end speaks at all.
    """

    def __init__(self, settings: ResidualSettings = ResidualSettings()) -> None:
        self._settings = settings
        self._leakage_db = np.full(BINS, settings.leakage_db, np.float32)
        self._echo = np.zeros(BINS, np.float32)
        self._usual = 0.0
        self._paused = 0
        self._silent = True
        self._noise = _NoiseFloor()
        self._near = np.zeros(BINS, np.float32)
        self.near_end = 1.0
        """Belief that the near-end speaks, 0 to 1; 1 without far-end."""
        self.noise_power = 0.0
        """Of the stationary noise, summed over bins; 0 as long as it is not known."""

    def process(
        self,
        error: Spectra,
        echo: Spectra,
        uncancelled_power: Floats,
        *,
        known: bool = True,
        trusted: bool = True,
        placed: bool = True,
    ) -> Floats:
        """Give the gain (161,) for the error.

        Args:
            error: spectrum (161,) after the linear canceller.
            echo: spectrum (161,) of the echo that it estimated.
            uncancelled_power: (161,) see `appliance.capture.aec.Cancelled`.
            known: False while the echo's path is new: all that is heard counts as residue.
            trusted: False while what is left of the echo may sound like the user.
            placed: False while the estimate has the echo's power, but not its phase.
        """
        settings = self._settings
        error_power, echo_power = _power(error), _power(echo)
        self._echo = source = np.maximum(echo_power, self._echo * np.float32(settings.decay))
        audible = float(source.sum() + uncancelled_power.sum()) / BINS
        self._paused = self._paused + 1 if audible <= _PAUSE * self._usual else 0
        noise = self._noise.process(error_power, learn=self._paused >= _PAUSE_BLOCKS)
        self.noise_power = float(noise.sum())
        if audible < _SILENCE:
            self.near_end, self._silent = 1.0, True
            return np.ones(BINS, np.float32)
        self._usual += _USUAL_STEP * (audible - self._usual)
        residue = self._residue(source) + uncancelled_power
        expected = _audible(residue + noise)
        self._believe(10 * math.log10(_audible(error_power) / expected + 1e-9))
        if not known:
            self.near_end = 0.0
        if placed:
            self._follow(error_power, source, uncancelled_power + noise, source > _MARGIN * audible)
        near_end = self.near_end if trusted else 0.0
        caution = 1 + (settings.oversuppression - 1) * (1 - near_end)
        left = self._residue(source) if placed else source
        residue = (left + uncancelled_power) * np.float32(caution)
        ratio = error_power / (residue + _TINY)
        smoothing = np.float32(settings.prior_smoothing)
        prior = smoothing * self._near + (1 - smoothing) * np.maximum(ratio - 1, 0)
        floor_db = (
            settings.far_floor_db + (settings.near_floor_db - settings.far_floor_db) * near_end
        )
        # Never below the noise: a suppressor that comes after needs it to be stationary.
        floor = np.sqrt(np.minimum(noise / (error_power + _TINY), np.float32(1)))
        floor = np.maximum(floor, np.float32(10 ** (floor_db / 20)))
        gain: Floats = np.maximum(prior / (1 + prior), floor)
        self._near = np.minimum(gain * gain * ratio, np.float32(1e6))
        return gain

    def listen(self, error: Spectra) -> None:
        """Take a spectrum (161,) while nothing is played: learn the noise."""
        self.near_end, self._silent = 1.0, True
        self.noise_power = float(self._noise.process(_power(error), learn=True).sum())

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The leakage."""
        return {"leakage_db": self._leakage_db.copy()}

    def restore(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Start from the leakage of an earlier `state`."""
        leakage_db = state.get("leakage_db")
        if leakage_db is None or leakage_db.shape != (BINS,) or not np.isfinite(leakage_db).all():
            return
        self._leakage_db = leakage_db.astype(np.float32)

    def _residue(self, source: Floats) -> Floats:
        smooth_db = _SMOOTHER @ self._leakage_db
        power: Floats = source * np.exp(smooth_db * _NEPER_PER_DB)
        return power

    def _believe(self, excess_db: float) -> None:
        """Take how far the error exceeds what residual echo would be."""
        now = min(1.0, max(0.0, (excess_db - 3) / 9))
        hold = 0.0 if self._silent else self._settings.hold  # silence was no sign of the user
        self._silent = False
        self.near_end = max(now, hold * self.near_end + (1 - hold) * now)

    def _follow(
        self, error: Floats, source: Floats, noise: Floats, audible: NDArray[np.bool_]
    ) -> None:
        """Take a step towards where the error is explained, as far as it is residual echo.

        Each bin by itself: against the smoothed leakage neighbours would drift apart.
        """
        settings = self._settings
        residue = source * np.exp(self._leakage_db * _NEPER_PER_DB)
        expected = residue + noise + _TINY
        deviation_db = 10 * np.log10((error + _TINY) / expected)
        rise = settings.rise_db * (1 - self.near_end) * np.minimum(deviation_db / 6, 1)
        fall = settings.fall_db * np.maximum(deviation_db, -6) / 2
        step = np.where(deviation_db > 0, rise, fall) * (residue / expected) * audible
        self._leakage_db = np.clip(self._leakage_db + step, -45, 0)


class _NoiseFloor:
    """Stationary noise per bin: minimum statistics (Martin 2001), on the low side."""

    def __init__(self) -> None:
        self._known = False
        self._smooth = np.zeros(BINS, np.float32)
        self._minimum = np.full((2, BINS), np.inf, np.float32)
        self._blocks = 0

    def process(self, power: Floats, *, learn: bool) -> Floats:
        """Take the power (161,) of a block, and whether all of it is noise or near-end.

        Returns:
            The power (161,) of the noise; 0 as long as it is not known.
        """
        if learn and float(power.sum()) > _NOTHING:
            self._smooth = self._smooth + _FLOOR_STEP * (power - self._smooth)
            self._blocks += 1
            np.minimum(self._minimum[0], self._smooth, out=self._minimum[0])
            if self._blocks == _FLOOR_BLOCKS:
                self._blocks = 0
                self._minimum[1] = self._minimum[0]
                self._minimum[0] = np.inf
            elif self._blocks < _SETTLED_BLOCKS and not self._known:
                self._minimum[0] = self._smooth
            else:
                self._known = True
        if not self._known:
            return np.zeros(BINS, np.float32)
        floor: Floats = np.minimum(self._minimum[0], self._minimum[1])
        return floor


def _audible(power: Floats) -> float:
    return float(power[_LOWEST_BIN:].sum()) + 1e-12


def _power(spectrum: Spectra) -> Floats:
    power: Floats = np.square(spectrum.real) + np.square(spectrum.imag)
    return power

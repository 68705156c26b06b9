"""The delay between two clocks as a line whose slope wanders slowly."""

from __future__ import annotations

import math

_HUBER = 3.0
_BIAS_SHARE = 0.1
_BIASED = 1.0
"""Errors that lie on one side by so many standard deviations mean that the drift changes faster."""
_BIAS_GROWTH = 1.5


class DriftFilter:
    """Kalman filter of delay and drift from irregular, noisy measurements of the delay.

    While little is known it is the regression line through the measurements; later it forgets the
    past just so fast that it follows the slow change of a clock with temperature. Time is in
    samples too, so drift is a pure number (1e-6 is 1 ppm).

    Args:
        wander: random walk of the drift per square root of a sample.
    """

    def __init__(self, wander: float) -> None:
        self._wander = wander
        self.start(0.0, 0.0, 0.0, 0.0)

    @property
    def drift_deviation(self) -> float:
        """Standard deviation of the drift."""
        return math.sqrt(self._drift_variance)

    def start(self, delay: float, delay_deviation: float, drift: float, deviation: float) -> None:
        """Begin with what is believed, and how far it may be off."""
        self.delay, self.drift = delay, drift
        self._delay_variance, self._drift_variance = delay_deviation**2, deviation**2
        self._covariance = 0.0
        self._bias = 0.0

    def jump(self, delay: float, delay_deviation: float, deviation: float) -> None:
        """The delay is another one now; the drift stays, but may be off by `deviation`."""
        self.start(delay, delay_deviation, self.drift, deviation)

    def advance(self, samples: int) -> None:
        """Let time pass."""
        wander = self._wander**2 * samples
        self.delay += self.drift * samples
        self._delay_variance += samples * (
            2 * self._covariance + samples * (self._drift_variance + wander / 3)
        )
        self._covariance += samples * (self._drift_variance + wander / 2)
        self._drift_variance += wander

    def deviation_of(self, measured: float, variance: float, age: int) -> float:
        """By how many standard deviations a delay, measured `age` samples ago, is unexpected."""
        delay_column, drift_column = self._columns(age)
        error = measured - (self.delay - age * self.drift)
        return abs(error) / math.sqrt(delay_column - age * drift_column + variance)

    def update(self, measured: float, variance: float, age: int) -> None:
        """Take a measurement of the delay as it was `age` samples ago.

        One off by more than three standard deviations counts as so much less certain (Huber).
        """
        delay_column, drift_column = self._columns(age)
        error = measured - (self.delay - age * self.drift)
        expected_deviation = math.sqrt(delay_column - age * drift_column + variance)
        surprise = min(max(error / expected_deviation, -_HUBER), _HUBER)
        self._bias += _BIAS_SHARE * (surprise - self._bias)
        total = max(delay_column - age * drift_column + variance, (error / _HUBER) ** 2)
        self.delay += error * delay_column / total
        self.drift += error * drift_column / total
        self._delay_variance -= delay_column**2 / total
        self._drift_variance -= drift_column**2 / total
        self._covariance -= delay_column * drift_column / total
        if abs(self._bias) > _BIASED:
            self._drift_variance *= _BIAS_GROWTH

    def _columns(self, age: int) -> tuple[float, float]:
        """Covariance of delay and of drift with the delay as it was `age` samples ago."""
        return (
            self._delay_variance - age * self._covariance,
            self._covariance - age * self._drift_variance,
        )

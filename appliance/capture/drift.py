"""The delay between two clocks as a line whose slope wanders slowly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class DriftFilter:
    """Kalman filter of delay and drift from irregular, noisy measurements of the delay.

    While little is known it is the regression line through the measurements; later it weighs the
    past so that it follows the slow change of a clock with temperature. Drift and time are in
    samples, so drift is a pure number (1e-6 is 1 ppm).

    Args:
        wander: random walk of the drift per square root of a sample.
    """

    def __init__(self, wander: float) -> None:
        self._wander = wander
        self.delay = self.drift = 0.0
        self._covariance: NDArray[np.float64] = np.zeros((2, 2))

    @property
    def drift_deviation(self) -> float:
        """Standard deviation of the drift."""
        return float(np.sqrt(self._covariance[1, 1]))

    def start(self, delay: float, delay_deviation: float, drift: float, deviation: float) -> None:
        """Begin with what is believed, and how far it may be off."""
        self.delay, self.drift = delay, drift
        self._covariance = np.diag([delay_deviation**2, deviation**2])

    def jump(self, delay: float, delay_deviation: float, deviation: float) -> None:
        """The delay is another one now; the drift stays, but may be off by `deviation`."""
        self.start(delay, delay_deviation, self.drift, deviation)

    def advance(self, samples: int) -> None:
        """Let time pass."""
        self.delay += self.drift * samples
        (a, b), (_, d) = self._covariance.tolist()
        q = self._wander**2
        a += 2 * b * samples + d * samples**2 + q * samples**3 / 3
        b += d * samples + q * samples**2 / 2
        d += q * samples
        self._covariance = np.array([[a, b], [b, d]])

    def deviation_of(self, measured: float, variance: float, age: int) -> float:
        """By how many standard deviations a delay, measured `age` samples ago, is unexpected."""
        seen = np.array([1.0, -age])
        expected = self._covariance @ seen @ seen
        error = measured - (self.delay - age * self.drift)
        return abs(error) / float(np.sqrt(expected + variance))

    def update(self, measured: float, variance: float, age: int) -> None:
        """Take a measurement of the delay as it was `age` samples ago."""
        seen = np.array([1.0, -age])
        column = self._covariance @ seen
        gain = column / (column @ seen + variance)
        error = measured - (self.delay - age * self.drift)
        self.delay += float(gain[0]) * error
        self.drift += float(gain[1]) * error
        self._covariance = self._covariance - np.outer(gain, column)

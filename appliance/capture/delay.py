"""Where the echo lies in the microphone: a coarse search over all delays, a fine one around one.

Both are generalised cross-correlations with phase transform (Knapp & Carter 1976). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from appliance.audio.blocks import RATE_HZ, Samples

Spectrum = NDArray[np.complex64]
Weights = NDArray[np.float32]

_TINY = np.float32(1e-20)
_PASS_HZ = (200.0, 350.0, 6000.0, 7000.0)
_WHITENING = 0.8
"""1 is the phase transform proper; a little less is more robust in noise."""
_PREFERENCE = 0.8
_EARLY = 160
"""A direct path lies at most this many samples before the strongest reflection."""
_LATE = 800
"""Peaks up to this many samples after the direct path are its reflections, not rivals."""


def band(length: int) -> Weights:
    """Weight per bin of a real transform of `length`: speech band with soft edges."""
    hz = scipy.fft.rfftfreq(length, 1 / RATE_HZ)
    return np.interp(hz, _PASS_HZ, (0, 1, 1, 0)).astype(np.float32)


def _whiten(cross: Spectrum, weights: Weights) -> Spectrum:
    """Keep the phases, and little of the magnitude: the phases of what is loud are less noisy."""
    magnitude = np.abs(cross)
    magnitude += _TINY
    weights = weights * magnitude ** np.float32(-_WHITENING)
    weights *= len(weights) / (np.dot(weights, magnitude) + _TINY)
    whitened: Spectrum = cross * weights
    return whitened


def direct_path(correlation: Weights, share: float = 0.5) -> int:
    """Index of the first peak that is at least `share` of the highest, which may be a reflection.

    Looks 10 ms before the highest peak; `correlation` is indexed by delay in samples.
    """
    highest = int(np.argmax(correlation))
    start = max(0, highest - _EARLY)
    early = correlation[start : highest + 1]
    index = int(np.argmax(early >= share * correlation[highest]))
    while index + 1 < len(early) and early[index + 1] > early[index]:
        index += 1
    return start + index


@dataclass(frozen=True)
class Peak:
    """What a coarse search found.

    Attributes:
        delay: of the direct path, in samples.
        strength: height over the correlation's standard deviation.
        lead: height over the highest rival, one that is no reflection of it.
        at_expected: height of the correlation near the expected delay, relative to this peak.
    """

    delay: int
    strength: float
    lead: float
    at_expected: float


class CoarseSearch:
    """GCC-PHAT over all delays in `[first, last]` samples, averaged over successive frames.

    Args:
        first: smallest delay; may be negative.
        last: largest delay.
        frame: samples of microphone per frame.
        memory: share of the past in the average, per frame.
    """

    def __init__(self, first: int, last: int, frame: int = 8192, memory: float = 0.6) -> None:
        self.first, self.frame = first, frame
        self.span = last - first + frame
        """Samples of far-end per frame: ends `first` samples before the microphone's frame does."""
        self._delays = last - first + 1
        self._length = int(scipy.fft.next_fast_len(self.span, real=True))
        self._window = np.hanning(frame).astype(np.float32)
        self._band = band(self._length)
        self._memory = np.float32(memory)
        self._average: Spectrum = np.zeros(self._length // 2 + 1, np.complex64)

    def reset(self) -> None:
        """Forget the frames so far."""
        self._average[:] = 0

    def search(self, far: Samples, mic: Samples, expected: float | None) -> Peak:
        """Add one frame: `far (span,)`, `mic (frame,)`; give the best delay so far."""
        cross = scipy.fft.rfft(mic * self._window, self._length)
        cross *= scipy.fft.rfft(far, self._length).conj()
        self._average *= self._memory
        self._average += _whiten(cross, self._band)
        # The far-end's frame starts `last` samples before the microphone's: lag -i is delay last-i.
        correlation = scipy.fft.irfft(self._average, self._length)
        lags = np.arange(self._delays) - (self._delays - 1)
        return self._judge(correlation[lags], expected)

    def _judge(self, correlation: Weights, expected: float | None) -> Peak:
        deviation = float(np.sqrt(np.dot(correlation, correlation) / len(correlation))) + 1e-12
        best = direct_path(correlation)
        height = float(correlation[best])
        highest = float(correlation[best : best + _EARLY + 1].max())
        rivals = max(
            float(correlation[: max(0, best - 32)].max(initial=0)),
            float(correlation[best + _LATE :].max(initial=0)),
        )
        near = 0.0
        if expected is not None:
            index = round(expected) - self.first
            near = float(correlation[max(0, index - 16) : max(0, index + 17)].max(initial=0))
        return Peak(
            best + self.first,
            highest / deviation,
            highest / (rivals + 1e-12),
            near / (height + 1e-12),
        )


@dataclass(frozen=True)
class Shift:
    """A fine measurement.

    Attributes:
        samples: delay of the direct path against the reference.
        strength: height of the peak over the standard deviation it has without any echo.
        variance: of `samples`, from how well the phases agree.
    """

    samples: float
    strength: float
    variance: float


class Template:
    """The delay between an aligned reference and the microphone, to a few hundredths of a sample.

    The phase spectrum between both is averaged into a template, each frame turned by its own
    delay so that the direct path stays at zero; a frame's delay is where it fits the template best.
    All of the echo counts for that, not the direct path alone, and each bin counts as much as its
    phase was found stable before.

    Args:
        frame: samples per frame.
        reach: largest delay that is looked for, in samples, both ways.
    """

    _NEWTON_STEPS = 3

    def __init__(self, frame: int = 4096, reach: int = 256) -> None:
        self.frame = frame
        self._reach = reach
        self._lags = np.arange(-reach, reach + 1)
        self._window = np.hanning(frame).astype(np.float32)
        self._band = band(frame)
        self._bins = np.flatnonzero(self._band)
        self._band = self._band[self._bins]
        self._omega = (2 * np.pi / frame * self._bins).astype(np.float32)
        self._omega_squared = self._omega**2
        self._padded: Spectrum = np.zeros(frame // 2 + 1, np.complex64)
        self.average: Spectrum = np.zeros(len(self._bins), np.complex64)
        self.frames = 0

    def reset(self) -> None:
        """Forget the room."""
        self.average[:] = 0
        self.frames = 0

    def restore(self, average: Spectrum, frames: int) -> None:
        """Begin with a template from before that was averaged over so many frames."""
        self.average[:] = average
        self.frames = frames

    def measure(
        self, reference: Samples, mic: Samples, expected: float, within: int
    ) -> tuple[Spectrum, Shift]:
        """Compare one frame of both, each (frame,): its phases, for `learn`, and its delay.

        A delay `within` so many samples of the expected one is preferred to a slightly better one
        elsewhere; as long as there is no template, others are not looked at.
        """
        cross = scipy.fft.rfft(mic * self._window)[self._bins]
        cross *= scipy.fft.rfft(reference * self._window)[self._bins].conj()
        phases = _whiten(cross, self._band)
        return phases, self._fit(phases, round(expected) + self._reach, within)

    def learn(self, phases: Spectrum, samples: float, frames: int) -> None:
        """Average a frame into the template, over about `frames` of them."""
        self.frames = min(self.frames + 1, frames)
        turned = self._turn(phases, samples)
        self.average += (turned - self.average) / np.float32(self.frames)

    def _fit(self, phases: Spectrum, expected: int, within: int) -> Shift:
        known = self.frames > 0
        product = phases * self.average.conj() if known else phases
        self._padded[self._bins] = product
        correlation = scipy.fft.irfft(self._padded)[self._lags]
        expected = min(max(expected, within), len(correlation) - 1 - within)
        start = expected - within
        index = start + int(np.argmax(correlation[start : expected + within + 1]))
        highest = int(np.argmax(correlation))
        if known and correlation[index] < _PREFERENCE * correlation[highest]:
            index = highest
        samples = float(index - self._reach)
        # Newton's method for the peak between the samples of the correlation.
        for _ in range(self._NEWTON_STEPS):
            turned = self._turn(product, samples)
            slope = -float(np.dot(self._omega, turned.imag))
            curvature = float(np.dot(self._omega_squared, turned.real))
            if curvature <= 0:
                break
            samples += min(0.5, max(-0.5, slope / curvature))
        magnitude = np.abs(product)
        total = float(magnitude.sum()) + 1e-12
        agreement = float(turned.real.sum()) / total
        # Hann-windowed bins are correlated: only two in three are independent.
        energy = float(np.dot(magnitude, magnitude)) + 1e-12
        strength = agreement * total / np.sqrt(0.75 * energy)
        leverage = float(np.dot(self._omega_squared, magnitude)) * max(agreement, 1e-3) + 1e-12
        steep = self._omega * magnitude
        spread = 0.75 * max(1 - agreement**2, 0.0) * float(np.dot(steep, steep))
        return Shift(samples, strength, spread / leverage**2)

    def _turn(self, spectrum: Spectrum, samples: float) -> Spectrum:
        """Move a phase spectrum earlier by so many samples."""
        angle = self._omega * np.float32(samples)
        turn: Spectrum = np.empty(len(angle), np.complex64)
        np.cos(angle, out=turn.real)
        np.sin(angle, out=turn.imag)
        turn *= spectrum
        return turn

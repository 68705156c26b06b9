"""Linear echo cancellation: a frequency-domain Kalman filter per microphone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from appliance.audio.blocks import BLOCK_SAMPLES, Samples

_FFT = 2 * BLOCK_SAMPLES
_BINS = BLOCK_SAMPLES + 1
_BRANCHES = 3
"""The far-end itself and two shapes of a loudspeaker's saturation."""
_SILENCE = 1e-7
"""Mean square of a far-end block (-70 dBFS) below which there is nothing to learn from."""
_LEVEL_BLOCKS, _LEVEL = 10, 5e-4
"""Active far-end blocks, and their summed power, that set the scale of its distortion."""
_LOUDER, _LOUDER_STEP = 16.0, 0.02
"""How much more power (12 dB), over some 50 blocks, sets it anew: before, it was but noise."""
_LARGEST_LEVEL = 4.0
"""Of the far-end at that scale, beyond which its cube is not followed."""

State = dict[str, NDArray[Any]]
_TAIL_BLOCKS = 25
_TAIL_FIT = 4
_WATCH_BLOCKS = 30
_TURNS = 3
"""Each partition is constrained in one of so many blocks."""
_COHERENCE_STEP = np.float32(0.05)
_TINY = np.float32(1e-12)
_NO_POWER = np.zeros(_BINS, np.float32)
_REVERBERANT = 0.7
"""Share of the distortion's power that is still to come in the next block."""
_INCOHERENT, _COHERENT = 0.15, 0.4
"""Share of the error that the echo explains, by chance and when the path has changed."""


@dataclass(frozen=True, kw_only=True)
class EchoCancellerSettings:
    """Of the Kalman filter."""

    tail_ms: int = 240
    """Length of the modelled echo."""
    distortion_ms: int = 20
    """Length of the modelled echo of the loudspeaker's distortion."""
    distortion_left_db: float = -38.0
    """What is left of the distortion, against the cube of the far-end."""
    decay_db: float = 1.5
    """By how much each 10 ms of an unknown room is expected to be quieter than those before."""
    prior: float = 0.3
    """Power of the unknown path relative to the echo's own."""
    learning: float = 1e-2
    """Process noise relative to the filter's power, per block, while a path is new ..."""
    tracking: float = 5e-5
    """... and once it is known."""
    learning_blocks: float = 100.0
    """Active blocks over which the one becomes the other."""


class Cancelled(NamedTuple):
    """What comes of one block."""

    error: Samples
    """The microphones without the echo, (channels, 160)."""
    echo: Samples
    """The echo as it was estimated, likewise."""
    uncancelled_power: NDArray[np.float32]
    """Power (161,) of what no filter of this kind takes out of `error`, for one microphone, scaled
    as the spectra of `Analysis`: reverberation beyond its length, distortion of other shapes."""


class EchoCanceller:
    """Partitioned-block frequency-domain Kalman filter, all microphones at once.

    The echo path is a random walk, known with a variance per partition and bin that all
    microphones share; the near-end's power spectrum is the observation noise, so double talk
    slows the filter by itself (Enzner and Vary 2006; Kuech, Mabande and Enzner 2014). Beside the
    far-end what lies beyond twice its level and its cube are filtered: together they model a
    loudspeaker that saturates (as the power filters of Kuech and Kellermann 2006). The process
    noise falls as the path becomes known and rises again when the error is coherent with the
    estimated echo: then the path has changed.

    No latency. A silent far-end costs nothing.

    Args:
        channels: number of microphones.
        settings: see `EchoCancellerSettings`.
    """

    def __init__(
        self, channels: int, settings: EchoCancellerSettings = EchoCancellerSettings()
    ) -> None:
        self._channels = channels
        self._settings = settings
        self._partitions = max(1, settings.tail_ms * 16 // BLOCK_SAMPLES)
        self._short = min(max(1, settings.distortion_ms * 16 // BLOCK_SAMPLES), self._partitions)
        self._branches = [(0, self._partitions)]
        """First row and number of rows of each branch."""
        for _ in range(_BRANCHES - 1):
            self._branches.append((sum(self._branches[-1]), self._short))
        rows = sum(self._branches[-1])
        envelope = 10 ** (-settings.decay_db / 10 * np.arange(self._partitions))
        self._envelope = np.concatenate([envelope, *[envelope[: self._short]] * (_BRANCHES - 1)])
        self._spectra = np.zeros((rows, _BINS), np.complex64)
        self._frames = np.zeros((_BRANCHES, _FFT), np.float32)
        self._padded = np.zeros((channels, _FFT), np.float32)
        self._products = np.zeros((channels, rows, _BINS), np.complex64)
        self._quiet_blocks = rows
        self.divergences = 0
        """Times that the filter was thrown away because it added echo."""
        self.reset()

    def reset(self) -> None:
        """Forget the path."""
        shape = (self._channels, len(self._envelope), _BINS)
        self._filter = np.zeros(shape, np.complex64)
        self._filter_power = np.zeros(shape[1:], np.float32)
        """Summed over the microphones; as of when a partition was last constrained."""
        self._variance = np.zeros(shape[1:], np.float32)
        self._noise = np.full(_BINS, 1e-6, np.float32)
        self._active_blocks = 0
        self._far_power = self._mic_power = self._prior = 0.0
        self._scale = np.float32(0.0)
        self._level = 0.0
        self._coherence = _Coherence()
        self.explained = 1.0
        """Share of the error, over some 0.2 s, that the estimated echo explains: by chance 0.15."""
        self._tail = _Tail()
        self._distortion = _NO_POWER
        self._power_before = self._power_after = 0.0
        self._watched = 0
        self._turn = 0

    @property
    def active(self) -> bool:
        """Whether there may be echo: the far-end played within the length of the filter."""
        return self._quiet_blocks <= self._partitions

    @property
    def sounding(self) -> bool:
        """Whether the far-end plays in this very block."""
        return self._quiet_blocks == 0

    @property
    def settled(self) -> bool:
        """Whether the filter has taken the shape of the path."""
        return self._active_blocks > self._settings.learning_blocks

    @property
    def converged(self) -> bool:
        """Whether the path is known well enough to be worth keeping."""
        return self._active_blocks > 3 * self._settings.learning_blocks

    def process(self, mic: Samples, far: Samples, *, hold: bool = False) -> Cancelled:
        """Take a block of the microphones (channels, 160) and of the far-end (160,).

        Args:
            mic: finite.
            far: likewise.
            hold: learn nothing from this block.
        """
        far_power = float(np.dot(far, far)) / BLOCK_SAMPLES
        self._quiet_blocks = 0 if far_power > _SILENCE else self._quiet_blocks + 1
        if not self.active:
            self._distortion = _NO_POWER
            return Cancelled(mic, np.zeros_like(mic), self._tail.silence())
        self._push(far)
        if not self._scale and not self._calibrate(mic, far_power):
            return Cancelled(mic, np.zeros_like(mic), self._tail.silence())
        echo_spectra = np.multiply(self._filter, self._spectra, out=self._products).sum(axis=1)
        echo: Samples = scipy.fft.irfft(echo_spectra, axis=-1)[:, BLOCK_SAMPLES:]
        error = mic - echo
        late_power = self._tail.process(self._spectra[self._partitions - 1])
        cancelled = Cancelled(error, echo, late_power + self._distortion_power())
        if hold:
            return cancelled
        if self.sounding:
            self._active_blocks += 1
            self._rescale(far_power)
            if not self.settled:
                self._expect(mic, far_power)
            if self._active_blocks % _TAIL_BLOCKS == 0 and self.settled:
                self._tail.learn(self._filter[0, : self._partitions])
            self._watch(mic, error)
        self._adapt(error, echo_spectra)
        return cancelled

    def shift(self, samples: float) -> None:
        """The reference comes later by so many samples from now on: move the taps earlier."""
        taps = self._partitions * BLOCK_SAMPLES
        for first, rows in self._branches:
            parts = self._filter[:, first : first + rows]
            blocks = scipy.fft.irfft(parts, axis=-1)[..., :BLOCK_SAMPLES]
            response = blocks.reshape(self._channels, rows * BLOCK_SAMPLES)
            turned = scipy.fft.rfft(response, 2 * taps, axis=-1)
            turned *= np.exp(2j * np.pi * samples / (2 * taps) * np.arange(taps + 1))
            moved = scipy.fft.irfft(turned, axis=-1)[:, : rows * BLOCK_SAMPLES]
            blocks = moved.reshape(self._channels, rows, BLOCK_SAMPLES).astype(np.float32)
            self._filter[:, first : first + rows] = scipy.fft.rfft(blocks, _FFT, axis=-1)
        self._filter_power = _power(self._filter).sum(axis=0)

    def rewrite(self, past: Samples) -> None:
        """Put another past of the far-end (n,), whole blocks, in the place of what was given."""
        for block in past.reshape(-1, BLOCK_SAMPLES):
            self._push(block)

    def state(self) -> State:
        """The path as far as it is known; nothing before it is."""
        if not self.converged:
            return {}
        return {
            "filter": self._filter.copy(),
            "variance": self._variance.copy(),
            "scale": np.array(self._scale),
            "active_blocks": np.array(self._active_blocks),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Start from the path of an earlier `state`; one that does not fit is left alone."""
        path, variance = state.get("filter"), state.get("variance")
        if path is None or variance is None or path.shape != self._filter.shape:
            return
        if variance.shape != self._variance.shape or not np.isfinite(path).all():
            return
        scale, active_blocks = float(state["scale"]), int(state["active_blocks"])
        if not (np.isfinite(variance).all() and np.isfinite(scale) and scale > 0):
            return
        self.reset()
        self._filter = path.astype(np.complex64)
        self._filter_power = _power(self._filter).sum(axis=0)
        self._variance = variance.astype(np.float32)
        self._scale = np.float32(scale)
        self._active_blocks = active_blocks

    def _push(self, far: Samples) -> None:
        """Put the newest far-end spectra before the others of their branch."""
        frames, spectra = self._frames, self._spectra
        frames[:, :BLOCK_SAMPLES] = frames[:, BLOCK_SAMPLES:]
        frames[0, BLOCK_SAMPLES:] = far
        if self._scale:
            level = far * self._scale
            frames[1, BLOCK_SAMPLES:] = (level - np.clip(level, -1, 1)) / self._scale
            level = np.clip(level, -_LARGEST_LEVEL, _LARGEST_LEVEL)
            frames[2, BLOCK_SAMPLES:] = 0.2 * level * level * level / self._scale
        newest = scipy.fft.rfft(frames, axis=-1)
        spectra[1:] = spectra[:-1]
        spectra[[first for first, _ in self._branches]] = newest

    def _distortion_power(self) -> NDArray[np.float32]:
        """What may be left of the distortion: a share of the cube's power, by the echo's path."""
        cube = _power(self._spectra[self._branches[-1][0]])
        path = self._filter_power[: self._partitions].sum(axis=0) / np.float32(self._channels)
        self._distortion = np.maximum(cube * path, np.float32(_REVERBERANT) * self._distortion)
        # the window of `Analysis` passes half of the power
        left = np.float32(0.5 * 10 ** (self._settings.distortion_left_db / 10))
        power: NDArray[np.float32] = left * self._distortion
        return power

    def _calibrate(self, mic: Samples, far_power: float) -> bool:
        """Learn the levels from the first active blocks; False until then."""
        if far_power <= _SILENCE:
            return False
        self._expect(mic, far_power)
        self._active_blocks += 1
        if self._active_blocks < _LEVEL_BLOCKS or self._far_power < _LEVEL:
            return False
        self._level = self._far_power / self._active_blocks
        self._scale = np.float32(0.5 / np.sqrt(self._level))
        self._active_blocks = 0
        return True

    def _rescale(self, far_power: float) -> None:
        """Learn the distortion anew where the far-end has become much louder than at first."""
        self._level += _LOUDER_STEP * (far_power - self._level)
        scale = 0.5 / np.sqrt(self._level + _SILENCE)
        if scale * scale * _LOUDER > self._scale * self._scale:
            return
        self._scale = np.float32(scale)
        self._filter[:, self._partitions :] = 0.0
        self._filter_power[self._partitions :] = 0.0
        known = self._prior * self._envelope[self._partitions :]
        self._variance[self._partitions :] = known[:, None]

    def _expect(self, mic: Samples, far_power: float) -> None:
        """Set how strong an unknown path may be, from how loud the microphones have become.

        While it is new, for the echo may come long after the far-end began.
        """
        self._far_power = 0.98 * self._far_power + far_power
        self._mic_power = 0.98 * self._mic_power + float(np.vdot(mic, mic)) / mic.size
        prior = self._settings.prior * self._mic_power / max(self._far_power, _SILENCE)
        if prior > 1.5 * self._prior:
            self._prior = prior
            np.maximum(self._variance, (prior * self._envelope)[:, None], out=self._variance)

    def _adapt(self, error: Samples, echo_spectra: NDArray[np.complex64]) -> None:
        settings = self._settings
        self._padded[:, BLOCK_SAMPLES:] = error
        error_spectra: NDArray[np.complex64] = scipy.fft.rfft(self._padded, axis=-1)
        error_power = _power(error_spectra).sum(axis=0) / np.float32(self._channels)
        # Half of the circular correlation's terms are observed: the factor 1/2 of the paper.
        uncertainty = 0.5 * _power(self._spectra) * self._variance
        unknown = uncertainty.sum(axis=0)
        self._noise += 0.05 * (error_power - self._noise)
        total = unknown + np.maximum(self._noise, 0.25 * error_power) + np.float32(1e-9)
        gain = (self._variance / total) * np.conj(self._spectra)
        self._filter += np.multiply(gain, error_spectra[:, None], out=self._products)
        self._constrain()
        self.explained = self._coherence.update(error_spectra[0], echo_spectra[0])
        changed = (self.explained - _INCOHERENT) / (_COHERENT - _INCOHERENT)
        changed = min(1.0, max(0.0, changed))
        new = max(np.exp(-self._active_blocks / settings.learning_blocks), changed)
        walk = np.float32(settings.tracking + (settings.learning - settings.tracking) * new)
        self._variance *= (1 - walk) * (1 - uncertainty / total)
        self._variance += (walk / self._channels) * self._filter_power

    def _constrain(self) -> None:
        """Keep the taps of some partitions within their 10 ms: all have their turn."""
        first = self._turn = (self._turn + 1) % _TURNS
        rows = self._filter[:, first::_TURNS]
        taps = scipy.fft.irfft(rows, axis=-1)
        taps[..., BLOCK_SAMPLES:] = 0.0
        rows = self._filter[:, first::_TURNS] = scipy.fft.rfft(taps, axis=-1)
        self._filter_power[first::_TURNS] = _power(rows).sum(axis=0)

    def _watch(self, mic: Samples, error: Samples) -> None:
        """Throw the filter away when over 0.3 s it adds more than it takes away."""
        before, after = (float(np.vdot(signal, signal)) for signal in (mic, error))
        self._power_before += (before - self._power_before) / _WATCH_BLOCKS
        self._power_after += (after - self._power_after) / _WATCH_BLOCKS
        self._watched += 1
        if self._power_after > 2 * self._power_before + 1e-6 and self._watched > _WATCH_BLOCKS:
            self.divergences += 1
            self.reset()


class _Tail:
    """Reverberation beyond the filter: it decays as the filter's last partitions do.

    A late-reverberation model as of Habets et al. (2008), with its decay and its level read off the
    filter instead of a room's reverberation time.
    """

    def __init__(self) -> None:
        self._decay = 0.5
        self._level = np.zeros(_BINS, np.float32)
        self._power = np.zeros(_BINS, np.float32)

    def learn(self, path: NDArray[np.complex64]) -> None:
        """Take a filter (partitions, 161)."""
        power = _power(path)
        if len(power) < 2 * _TAIL_FIT:
            return
        late = np.log(power.sum(axis=1)[len(power) // 4 :] + 1e-20)
        slope = np.polyfit(np.arange(len(late)), late, 1)[0]
        self._decay = float(np.clip(np.exp(slope), 0.3, 0.95))
        last = power[-_TAIL_FIT:].mean(axis=0) * self._decay ** ((_TAIL_FIT + 1) / 2)
        self._level = uniform_filter1d(last, 9, mode="nearest")

    def process(self, spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Take the far-end's spectrum (161,) that now leaves the filter."""
        self._power = np.float32(self._decay) * self._power + self._level * _power(spectrum)
        # the window of `Analysis` passes half of the power
        audible: NDArray[np.float32] = np.float32(0.5) * self._power
        return audible

    def silence(self) -> NDArray[np.float32]:
        """All has decayed."""
        self._power = np.zeros(_BINS, np.float32)
        return self._power


class _Coherence:
    """How much of the error is still the estimated echo, as a share of its power."""

    def __init__(self) -> None:
        self._cross = np.zeros(_BINS, np.complex64)
        self._error = np.full(_BINS, 1e-9, np.float32)
        self._echo = np.full(_BINS, 1e-9, np.float32)

    def update(self, error: NDArray[np.complex64], echo: NDArray[np.complex64]) -> float:
        """Take spectra (161,) of one microphone's error and echo.

        Each block counts alike: the first loud ones after a pause would else stand alone, and few
        blocks are coherent by chance; the filter would be learnt anew where every sentence begins.
        """
        error_power, echo_power = _power(error), _power(echo)
        error_level = np.sqrt(error_power.sum() + _TINY)
        echo_level = np.sqrt(echo_power.sum() + _TINY)
        cross = error * echo.conj() / (error_level * echo_level)
        self._cross += _COHERENCE_STEP * (cross - self._cross)
        self._error += _COHERENCE_STEP * (error_power / error_level**2 - self._error)
        self._echo += _COHERENCE_STEP * (echo_power / echo_level**2 - self._echo)
        return float((_power(self._cross) / self._echo).sum() / self._error.sum())


def _power(spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
    power: NDArray[np.float32] = np.square(spectra.real) + np.square(spectra.imag)
    return power

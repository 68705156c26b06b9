"""One channel out of many: beams that keep the user as microphone 0 hears them.

Fixed: superdirective, the least diffuse noise that the array can have towards one direction (Cox,
Zeskind and Owen, "Robust adaptive beamforming", 1987), its white noise gain bounded.
Adaptive: the reference microphone where it is quiet, the superdirective beam as far as there is
noise, and against another talker the speech-distortion-weighted multichannel Wiener filter in its
generalised-eigenvalue form (Serizel, Moonen, Van Dijk and Wouters, "Low-rank approximation based
multichannel Wiener filter algorithms for noise reduction", 2014). Its covariances of the user and
of everything else are learned while nothing is played, at moments when one of them dominates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliance.capture.geometry import SPEED_OF_SOUND_M_S, Geometry
from appliance.capture.moments import Moment
from appliance.capture.spectral import BIN_HZ, BINS, Spectra

Mode = Literal["adaptive", "fixed", "off"]
Bools = NDArray[np.bool_]
Covariances = NDArray[np.complex64]
"""(bins, microphones, microphones)."""

_WEIGHTS_KEEP = np.float32(0.9)  # crossfade of about 100 ms
_LEAST_WHITE_NOISE_GAIN_DB = -10.0
_DISTORTION_WEIGHT = 2.0
_LEAST_GAIN = 0.3
_STRAIGHT = 0.7
_NOISE_BLOCKS = 400
_SPEECH_BLOCKS = 250
_LOADING = 1e-3
_GROUPS = 8  # of bins, one of which is solved anew at a time
_SOLVE_EVERY_BLOCKS = 3
_TOLD_FIRST, _TOLD_END = 6, 91  # bins that tell one talker from another: 300 to 4500 Hz
_TOLD_KEEP = 0.6
_TOLD_MARGIN = 0.6
_TOLD_SLOPE = 6.0
_TOLD_MEAN_BLOCKS = 50
_TOLD_AFTER_BLOCKS = 40
_TURN_DEG = 25.0
_STEP_DEG = 10.0
_RIVAL_BLOCKS = 500
_PRIOR_DIRECT = 0.4


def superdirective(
    geometry: Geometry,
    azimuth_deg: float,
    usable: Sequence[bool] | Bools | None = None,
    least_gain_db: float = _LEAST_WHITE_NOISE_GAIN_DB,
) -> Spectra:
    """Weights (microphones, 161) of the superdirective beam: output = sum of conj(w) x.

    Distortionless for a plane wave as the first usable microphone hears it.

    Args:
        geometry: known.
        azimuth_deg: where it looks.
        usable: microphones to use, at least one; None for all.
        least_gain_db: least white noise gain, by diagonal loading per bin: robustness against
            microphones that are not quite alike and their noise.
    """
    count = len(geometry.positions_m)
    use = np.flatnonzero(np.ones(count, bool) if usable is None else usable)
    weights = np.zeros((count, BINS), np.complex64)
    steering = _towards(geometry, azimuth_deg)[:, use]
    steering = steering * steering[:, :1].conj()
    diffuse = _diffuse(geometry)[:, use][:, :, use]
    eigenvalues, vectors = np.linalg.eigh(diffuse)
    projected = np.abs(np.einsum("fcm,fc->fm", vectors.conj(), steering)) ** 2
    wanted = min(10 ** (least_gain_db / 10), 0.99 * len(use))
    low, high = np.full((BINS, 1), -9.0), np.full((BINS, 1), 4.0)
    for _ in range(24):
        loading = (low + high) / 2
        inverse = 1 / (np.maximum(eigenvalues, 0) + 10**loading)
        gain = (projected * inverse).sum(1) ** 2 / (projected * inverse**2).sum(1)
        enough = (gain >= wanted)[:, None]
        low, high = np.where(enough, low, loading), np.where(enough, loading, high)
    loaded = diffuse + 10 ** high[:, :, None] * np.eye(len(use))
    solved = np.linalg.solve(loaded, steering[:, :, None])[:, :, 0]
    solved /= np.einsum("fc,fc->f", steering.conj(), solved)[:, None]
    weights[use] = solved.T
    return weights


class Beamformer:
    """Weights for each block, fixed or adaptive. Pure.

    Args:
        geometry: where it is unknown, the beam is the reference microphone.
        channels: microphones.
        mode: "off" is the reference microphone, the first that works.
    """

    def __init__(self, geometry: Geometry, channels: int, mode: Mode = "adaptive") -> None:
        self._geometry = geometry
        self._mode: Mode = mode if geometry.known else "off"
        self._usable = np.ones(channels, bool)
        self._look_deg: float | None = None
        self._superdirective: dict[int, Spectra] = {}
        """By look direction in steps of `_STEP_DEG`."""
        self._wiener = self._reference_only()
        self._weights = self._wiener.copy()
        self._speech = np.zeros((BINS, channels, channels), np.complex64)
        self._speech_blocks = 0.0
        self._noise = np.zeros((BINS, channels, channels), np.complex64)
        self._noise_blocks = 0.0
        self._blocks = 0
        self._rival_blocks = 0
        """For so many blocks more another talker is expected to go on."""
        self._whitening = np.zeros((BINS, channels, channels), np.complex64)
        self._ratios = np.ones((BINS, channels), np.float32)
        self._log_ratio = 0.0
        self._telling = False
        self._straight = np.zeros((BINS, channels, channels), np.complex128)
        self._log_ratio_means = [-1.0, 1.0]

    @property
    def reference(self) -> int:
        """The microphone as which the user is heard: the first that works, else 0."""
        return int(self._usable.argmax())

    @property
    def name(self) -> str:
        """What the beam is now, for metrics."""
        if self._mode == "off" or (self._mode == "fixed" and self._look_deg is None):
            return f"microphone {self.reference}"
        if self._look_deg is None:
            return self._mode
        return f"{self._mode} {self._look_deg:.0f}"

    def process(
        self,
        spectra: Spectra,
        moment: Moment,
        *,
        look_deg: float | None = None,
        far_end_active: bool = False,
        noisy: float = 0.0,
        usable: Bools | None = None,
    ) -> Spectra:
        """Learn from a block; give the weights to use on it.

        Args:
            spectra: (microphones, 161), after echo cancellation.
            moment: what the block holds, see `Moments`.
            look_deg: where the user is, if known.
            far_end_active: whether the loudspeaker plays.
            noisy: how much noise there is to suppress, 0 to 1.
            usable: (microphones,) those that work; None for all.

        Returns:
            (microphones, 161) weights; the output is the sum of conj(weights) x spectra. They
            move smoothly, except when a microphone breaks.
        """
        if usable is not None and not np.array_equal(usable, self._usable):
            self._leave_out(usable)
        weights: Spectra = self._weights
        if self._mode == "off" or look_deg is None:
            return weights
        self._turn(look_deg)
        if self._mode == "fixed":
            wanted = self._towards_user()
        else:
            if not far_end_active:
                self._learn(spectra, moment)
            self._rival_blocks = _RIVAL_BLOCKS if moment.rival else max(0, self._rival_blocks - 1)
            if self._rival_blocks and not far_end_active:
                self._solve()
                wanted = self._wiener
            elif noisy > 0:
                alone = self._reference_only()
                wanted = alone + np.float32(noisy) * (self._towards_user() - alone)
            else:
                wanted = self._reference_only()
        self._weights = weights = weights + (1 - _WEIGHTS_KEEP) * (wanted - weights)
        return weights

    def _reference_only(self) -> Spectra:
        weights = np.zeros((len(self._usable), BINS), np.complex64)
        weights[self.reference] = 1
        return weights

    def _towards_user(self) -> Spectra:
        """The superdirective beam; computed when the user is heard from a direction first."""
        step = round((self._look_deg or 0.0) / _STEP_DEG)
        if step not in self._superdirective:
            self._superdirective[step] = superdirective(
                self._geometry, step * _STEP_DEG, self._usable
            )
        return self._superdirective[step]

    def _leave_out(self, usable: Bools) -> None:
        """Begin anew when microphones break or come back."""
        self._usable = usable.copy()
        self._superdirective.clear()
        self._look_deg = None
        self._weights = self._reference_only()

    def _turn(self, look_deg: float) -> None:
        look_deg = self._geometry.fold(look_deg)
        if self._look_deg is not None:
            turned_deg = abs((look_deg - self._look_deg + 180) % 360 - 180)
            if turned_deg < _TURN_DEG:
                if turned_deg > _STEP_DEG / 2:
                    self._look_deg = look_deg
                return
        self._look_deg = look_deg
        steering = _towards(self._geometry, look_deg)
        outer = steering[:, :, None] * steering[:, None, :].conj()
        self._straight = outer * (self._usable[:, None] & self._usable)
        # Another user: what was noise until now may be them.
        self._wiener = self._reference_only()
        self._speech[:] = 0
        self._noise[:] = 0
        self._speech_blocks = self._noise_blocks = 0.0

    def _learn(self, spectra: Spectra, moment: Moment) -> None:
        speech, noise = float(moment.speech), float(moment.noise)
        if moment.rival:
            told = self._tell(spectra, moment)
            if min(self._speech_blocks, self._noise_blocks) > _TOLD_AFTER_BLOCKS:
                if not self._telling:  # what was learned from directions alone soon makes way
                    self._telling = True
                    self._speech_blocks = self._noise_blocks = _TOLD_AFTER_BLOCKS
                speech = 1 / (1 + np.exp(_TOLD_SLOPE * (_TOLD_MARGIN - told)))
                noise = 1 / (1 + np.exp(_TOLD_SLOPE * (_TOLD_MARGIN + told)))
        if max(speech, noise) < 0.05:
            return
        column = (spectra * self._usable[:, None]).T[:, :, None]
        outer = column * column.conj().transpose(0, 2, 1)
        if speech >= 0.05:
            self._speech_blocks = min(self._speech_blocks + speech, _SPEECH_BLOCKS)
            self._speech += np.float32(speech / self._speech_blocks) * (outer - self._speech)
        if noise >= 0.05:
            self._noise_blocks = min(self._noise_blocks + noise, _NOISE_BLOCKS)
            self._noise += np.float32(noise / self._noise_blocks) * (outer - self._noise)

    def _tell(self, spectra: Spectra, moment: Moment) -> float:
        """Whether the user speaks, by what was learned: about 1 with, -1 without them.

        The mean over bins of the log likelihood ratio of two complex angular central Gaussians
        (Ito, Araki and Nakatani, 2016), which does not mind levels.
        """
        bins = slice(_TOLD_FIRST, _TOLD_END)
        white = self._whitening[bins] @ spectra.T[bins, :, None]
        power = np.square(np.abs(white[:, :, 0])) + np.float32(1e-20)
        ratios = self._ratios[bins]
        likelihood = np.log(power.sum(axis=1) / (power / ratios).sum(axis=1)).mean()
        here = float(len(spectra) * likelihood - np.log(ratios).sum(axis=1).mean())
        self._log_ratio = _TOLD_KEEP * self._log_ratio + (1 - _TOLD_KEEP) * here
        means = self._log_ratio_means
        if moment.speech or moment.noise:
            means[moment.speech] += (self._log_ratio - means[moment.speech]) / _TOLD_MEAN_BLOCKS
        return (2 * self._log_ratio - sum(means)) / max(means[1] - means[0], 0.3)

    def _solve(self) -> None:
        """Weights of one group of bins from the covariances."""
        self._blocks += 1
        turn, early = divmod(self._blocks, _SOLVE_EVERY_BLOCKS)
        if early or not self._noise_blocks or not self._speech_blocks:
            return
        bins = slice(turn % _GROUPS, None, _GROUPS)
        speech = self._speech[bins]
        if self._telling:
            # Of two talkers that are hard to tell apart, the user is the one straight ahead.
            level = np.trace(speech, axis1=1, axis2=2).real / speech.shape[-1]
            speech = speech + (_STRAIGHT * level)[:, None, None] * self._straight[bins]
        weights, whitening, ratios = wiener(
            speech,
            self._noise[bins],
            self.reference,
        )
        self._wiener[:, bins] = weights.T
        self._whitening[bins] = whitening
        self._ratios[bins] = ratios


def wiener(
    noisy: Covariances,
    noise: Covariances,
    reference: int,
) -> tuple[Spectra, Covariances, NDArray[np.float32]]:
    """Multichannel Wiener filter from generalised eigenvectors.

    Args:
        noisy: covariance while the user speaks (bins, microphones, microphones).
        noise: while they do not.
        reference: the microphone as which the user is to be heard.

    Returns:
        Weights (bins, microphones); the transform (bins, microphones, microphones) that makes the
        noise white and the noisy covariance diagonal, and that diagonal (bins, microphones).
    """
    microphones = noise.shape[-1]
    level = np.trace(noise, axis1=1, axis2=2).real / microphones
    loaded = noise + (_LOADING * level + 1e-15)[:, None, None] * np.eye(microphones)
    factor = np.linalg.cholesky(loaded)
    inverse = np.linalg.inv(factor)
    backward = inverse.conj().transpose(0, 2, 1)
    ratios, vectors = np.linalg.eigh(inverse @ noisy @ backward)
    speech = np.maximum(ratios - 1, 0)
    gains = speech / (speech + _DISTORTION_WEIGHT)
    gains *= np.maximum(gains[:, -1:], _LEAST_GAIN) / np.maximum(gains[:, -1:], 1e-3)
    at_reference = (factor @ vectors)[:, reference].conj()
    transform = backward @ vectors
    weights = (transform @ (gains * at_reference)[:, :, None])[:, :, 0]
    return weights, transform.conj().transpose(0, 2, 1), np.maximum(ratios, 1e-3)


def _towards(geometry: Geometry, azimuth_deg: float) -> NDArray[np.complex128]:
    """(161, microphones)."""
    frequency_hz = BIN_HZ * np.arange(BINS, dtype=np.float64)
    steering = geometry.steering(np.array([azimuth_deg]), frequency_hz)[0].T
    exact: NDArray[np.complex128] = steering.astype(np.complex128)
    return exact


def _diffuse(geometry: Geometry) -> NDArray[np.float64]:
    """Coherence of noise from everywhere, (161, microphones, microphones)."""
    apart_m = np.linalg.norm(geometry.positions_m[:, None] - geometry.positions_m[None], axis=-1)
    frequency_hz = BIN_HZ * np.arange(BINS)[:, None, None]
    coherence: NDArray[np.float64] = np.sinc(2 * frequency_hz * apart_m / SPEED_OF_SOUND_M_S)
    return coherence

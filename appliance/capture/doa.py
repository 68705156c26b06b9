"""Which way speech comes from: steered response power with phase transform (SRP-PHAT).

DiBiase, "A High-Accuracy, Low-Latency Technique for Talker Localization in Reverberant
Environments" (2000), with each bin of each block weighted by how far it stands out of the noise,
out of the room's late reverberation (a stand-in for the precedence effect: onsets tell the
direction, tails do not) and out of the residual echo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_MS
from appliance.capture.geometry import Geometry
from appliance.capture.spectral import BIN_HZ, Spectra

_LOWEST_BIN, _END_BIN = 6, 91  # 300 to 4500 Hz
_GRID_DEG = 5.0
_MAP_EVERY_BLOCKS = 4
_SMOOTHING_MS = 400.0  # of the running direction
_MOMENT_MS = 40.0  # of what `contrast` looks at
_BESIDE_DEG = 35.0  # from where on a direction is another one
_CROSS_KEEP = 0.5  # smoothing of the cross-spectra before their phase is taken
_NOISE_KEEP = 0.7
_NOISE_WINDOW_BLOCKS = 40  # noise is the least power in one to two of these
_NOISE_OVER_MINIMUM = 4.0
_LATE_MS = 50.0
_LATE_OVER_MEAN = 3.0
_TINY = np.float32(1e-12)
_LEAST_MOMENT = 1.5
_ENOUGH_EVIDENCE = 30.0
_LEAST_BLOCK_EVIDENCE = 0.1  # below it a block says nothing and costs little
_LEAST_EVIDENCE = 3.0  # bins' worth of weight without which there is no direction

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Direction:
    """Where speech comes from.

    Args:
        azimuth_deg: in [0, 360), counter-clockwise from the array's +x. Arrays in a line cannot
            tell front from back; theirs is always the one to the left of the axis
            (`Geometry.fold`).
        confidence: 0 to 1, about how probable it is that this is right within 10 degrees.
    """

    azimuth_deg: float
    confidence: float


class Doa:
    """Running and per-utterance direction of speech. Pure; far field, sources near the plane.

    The running direction looks back over some 400 ms of speech. Judged best on 0.5 to 1 s of it:
    that is what `begin` and `utterance` are for.

    Args:
        geometry: at least two known positions.

    Raises:
        ValueError: The geometry is unknown.
    """

    def __init__(self, geometry: Geometry) -> None:
        if not geometry.known:
            raise ValueError("no direction without the positions of the microphones")
        self._geometry = geometry
        microphones = len(geometry.positions_m)
        self._first, self._second = np.triu_indices(microphones, 1)
        bins = _END_BIN - _LOWEST_BIN
        span = 180.0 if geometry.front_back_ambiguous else 360.0
        start = geometry.axis_deg if geometry.front_back_ambiguous else 0.0
        self._circular = not geometry.front_back_ambiguous
        steps = round(span / _GRID_DEG)
        self._grid_deg = start + _GRID_DEG * np.arange(
            steps + (not self._circular), dtype=np.float64
        )
        steering = geometry.steering(
            self._grid_deg, BIN_HZ * np.arange(_LOWEST_BIN, _END_BIN, dtype=np.float64)
        )
        pairs = steering[:, self._first] * steering[:, self._second].conj()
        # Real parts of products as one real matrix product: complex seen as pairs of floats.
        self._steering = np.ascontiguousarray(pairs.reshape(len(pairs), -1)).view(np.float32)

        shape = (len(self._first), bins)
        self._cross = np.zeros(shape, np.complex64)
        self._phases = np.zeros((3, *shape), np.complex64)
        """Weighted phases over 400 ms, over the moment, and since `begin`."""
        self._running, self._moment, self._utterance = self._phases
        self._running_evidence = 0.0
        self._moment_evidence = 0.0
        self._utterance_evidence = 0.0
        self._smooth_power = np.zeros(bins, np.float32)
        self._late_power = np.zeros(bins, np.float32)
        self._minimum = np.full((2, bins), np.inf, np.float32)
        self._running_keep = math.exp(-BLOCK_MS / _SMOOTHING_MS)
        self._moment_keep = math.exp(-BLOCK_MS / _MOMENT_MS)
        keeps = np.array([self._running_keep, self._moment_keep, 1.0], np.float32)
        self._keeps: Floats = keeps[:, None, None]
        self._late_keep = np.float32(math.exp(-BLOCK_MS / _LATE_MS))
        self._blocks = 0
        self._pairs = np.ones((len(self._first), 1), np.float32)
        self._usable = np.ones(microphones, bool)
        self._all_usable = True
        self._gains = np.ones((microphones, 1), np.float32)  # 0 for those left out
        self._direction: Direction | None = None

    def begin(self) -> None:
        """A new utterance: `utterance` looks back no further than this."""
        self._utterance[:] = 0
        self._utterance_evidence = 0.0

    @property
    def utterance(self) -> Direction | None:
        """Direction over everything active since `begin`; None while there is too little."""
        return self._locate(self._utterance, self._utterance_evidence)

    def agreement(self, order: Sequence[int]) -> float | None:
        """How well one direction explains the last 400 ms, were the microphones in another order.

        Args:
            order: position k of the geometry belongs to channel order[k].

        Returns:
            0 to 1; None where there is too little speech or not every microphone works.
        """
        if self._running_evidence < _ENOUGH_EVIDENCE or not self._usable.all():
            return None
        full = np.zeros((len(order), len(order), self._running.shape[1]), np.complex64)
        full[self._first, self._second] = self._running
        full[self._second, self._first] = self._running.conj()
        moved = full[np.ix_(order, order)][self._first, self._second]
        response = self._steering @ moved.view(np.float32).ravel()
        return float(response.max()) / (len(self._first) * self._running_evidence)

    def contrast(self, azimuth_deg: float) -> float | None:
        """How much more the sound of this moment (40 ms) comes from there than from elsewhere.

        Returns:
            -1 (elsewhere) to 1 (there), None where nothing stands out of noise and reverberation.
        """
        pairs = float(self._pairs.sum())
        if self._moment_evidence < _LEAST_MOMENT or pairs == 0:
            return None
        response = self._steering @ self._moment.view(np.float32).ravel()
        apart_deg = np.abs((self._grid_deg - self._geometry.fold(azimuth_deg) + 180) % 360 - 180)
        elsewhere = response[apart_deg > _BESIDE_DEG]
        there = response[int(apart_deg.argmin())]
        return float(there - elsewhere.max()) / (pairs * self._moment_evidence)

    def process(
        self,
        spectra: Spectra,
        weights: Floats | None = None,
        active: bool = True,
        usable: NDArray[np.bool_] | None = None,
    ) -> Direction | None:
        """Take the spectra of a block.

        Args:
            spectra: (microphones, 161), in the order of the geometry.
            weights: (161,) 0 to 1, how much of each bin is near-end (the gains of the residual
                echo suppressor); None where nothing is played.
            active: whether there may be speech; blocks without move only the noise estimate.
            usable: (microphones,) those that work; None for all.

        Returns:
            The running direction (renewed every 40 ms); None while there is none.
        """
        if usable is not None and usable.tobytes() != self._usable.tobytes():
            self._leave_out(usable)
        band = spectra[:, _LOWEST_BIN:_END_BIN]
        if not self._all_usable:
            band = band * self._gains
        weight = self._weight(band)
        self._phases *= self._keeps
        self._running_evidence *= self._running_keep
        self._moment_evidence *= self._moment_keep
        if active:
            if weights is not None:
                weight *= weights[_LOWEST_BIN:_END_BIN]
            weight *= weight
            evidence = float(weight.sum())
        self._cross *= _CROSS_KEEP
        if active and evidence > _LEAST_BLOCK_EVIDENCE:
            self._cross += band[self._first] * band[self._second].conj()
            share = weight / (np.abs(self._cross) + _TINY)
            if not self._all_usable:
                share *= self._pairs
            self._phases += self._cross * share
            self._running_evidence += evidence
            self._moment_evidence += evidence
            self._utterance_evidence += evidence
        self._blocks += 1
        if self._blocks % _MAP_EVERY_BLOCKS == 0:
            self._direction = self._locate(self._running, self._running_evidence)
        return self._direction

    def _leave_out(self, usable: NDArray[np.bool_]) -> None:
        self._usable = usable.copy()
        self._all_usable = bool(usable.all())
        self._gains = usable.astype(np.float32)[:, None]
        self._pairs = (usable[self._first] & usable[self._second]).astype(np.float32)[:, None]
        self._running *= self._pairs
        self._utterance *= self._pairs

    def _weight(self, band: Spectra) -> Floats:
        """Share of each bin (bins,) that is neither noise nor late reverberation."""
        power = (np.square(band.real) + np.square(band.imag)).sum(axis=0)
        power += _TINY
        if self._blocks == 0:
            self._smooth_power[:] = power
        self._smooth_power += (1 - _NOISE_KEEP) * (power - self._smooth_power)
        if self._blocks % _NOISE_WINDOW_BLOCKS == 0:
            self._minimum[0] = self._minimum[1]
            self._minimum[1] = np.inf
        before, latest = self._minimum
        np.minimum(latest, self._smooth_power, out=latest)
        early = np.maximum(1 - _LATE_OVER_MEAN * self._late_power / power, 0)
        self._late_power += (1 - self._late_keep) * (power - self._late_power)
        above = np.maximum(1 - _NOISE_OVER_MINIMUM * np.minimum(before, latest) / power, 0)
        weight: Floats = early * above
        return weight

    def _locate(self, phases: Spectra, evidence: float) -> Direction | None:
        pairs = float(self._pairs.sum())
        if evidence < _LEAST_EVIDENCE or pairs == 0:
            return None
        response = self._steering @ phases.view(np.float32).ravel()
        peak = int(response.argmax())
        offset = 0.0
        if self._circular or 0 < peak < len(response) - 1:
            before, here, after = (
                float(response[(peak + step) % len(response)]) for step in (-1, 0, 1)
            )
            offset = 0.5 * (before - after) / min(before - 2 * here + after, -1e-9)
        azimuth = self._geometry.fold(float(self._grid_deg[peak]) + offset * _GRID_DEG)
        return Direction(azimuth, _confidence(float(response[peak]) / (pairs * evidence), evidence))


def _confidence(coherence: float, evidence: float) -> float:
    """Share of directions like this one that were right within 10 degrees, in simulated rooms.

    A logistic regression on how well the phases agree (0 to 1) and on the sum of their weights.
    """
    return 1 / (1 + math.exp(8.5 - 8.0 * coherence - 1.3 * math.log(evidence)))

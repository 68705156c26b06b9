"""Who sounds at this moment: the user, something else, or nobody can tell. Pure.

The gate of the adaptive beam: it may learn noise only when the user does not speak, and the user
only when they do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from appliance.capture.doa import Doa
from appliance.capture.spectral import BIN_HZ, Spectra

_FIRST_BIN, _END_BIN = round(300 / BIN_HZ), round(4500 / BIN_HZ)
_ELSEWHERE = -0.3
_THERE = 0.0
_FLOOR_WINDOW_BLOCKS = 150
_OVER_FLOOR = 2.5
_SPEECH_OVER_FLOOR = 10.0
_LOUD_KEEP = float(np.exp(-1 / 200))  # 2 s
_BELOW_LOUD = 0.05
_NEAR_END, _FAR_END = 0.8, 0.2
_TAIL_BLOCKS = 10  # in which the room still answers
_RIVAL_KEEP = float(np.exp(-1 / 500))  # 5 s
_RIVAL_SHARE = 0.25
_RIVAL_BLOCKS = 15.0


class Moment(NamedTuple):
    """What a block holds; neither where nobody can tell."""

    speech: bool
    """The user speaks, whatever else there is."""
    noise: bool
    """The user does not speak."""
    rival: bool = False
    """Somebody else, somewhere else, has been speaking lately, and it is loud enough to matter."""


class Moments:
    """Tells from level, direction and echo who sounds."""

    def __init__(self) -> None:
        self._power = 0.0
        self._minimum = [np.inf, np.inf]
        self._loud = 0.0
        self._blocks = 0
        self._tail_blocks = 0
        self._contrast: float | None = None
        self._there, self._elsewhere = 0.0, 0.0

    def process(
        self,
        spectra: Spectra,
        doa: Doa | None,
        look_deg: float | None,
        *,
        far_end_active: bool = False,
        near_end: float = 1.0,
    ) -> Moment:
        """Take a block.

        Args:
            spectra: (161,) of one microphone that works.
            doa: that has processed the block; None for an unknown geometry.
            look_deg: where the user is, if known.
            far_end_active: whether the loudspeaker plays.
            near_end: belief that the user speaks while it plays, 0 to 1.
        """
        band = spectra[_FIRST_BIN:_END_BIN]
        power = float(np.vdot(band, band).real)
        self._power = self._power + 0.3 * (power - self._power) if self._blocks else power
        if self._blocks % _FLOOR_WINDOW_BLOCKS == 0:
            self._minimum = [self._minimum[1], np.inf]
        self._blocks += 1
        if not far_end_active:
            self._minimum[1] = min(self._minimum[1], self._power)
        floor = min(self._minimum)
        self._loud = max(self._power, _LOUD_KEEP * self._loud)
        if doa is None or look_deg is None:
            self._contrast = None
        elif self._blocks % 2:
            self._contrast = doa.contrast(look_deg)
        contrast = self._contrast
        matters = power > _BELOW_LOUD * self._loud
        if far_end_active and near_end < _FAR_END:
            return Moment(speech=False, noise=True)
        if far_end_active:
            speech = near_end > _NEAR_END and (contrast is None or contrast > _ELSEWHERE)
            return Moment(speech=speech and matters, noise=False)
        self._there *= _RIVAL_KEEP
        self._elsewhere *= _RIVAL_KEEP
        if contrast is not None and matters:
            there, elsewhere = contrast > _THERE, contrast < _ELSEWHERE
            self._there += there
            self._elsewhere += elsewhere
            self._tail_blocks = _TAIL_BLOCKS if there else self._tail_blocks - 1
            tail = self._tail_blocks > 0 and not self._rival and not elsewhere
            return Moment(there or tail, elsewhere, self._rival)
        self._tail_blocks -= 1
        if self._tail_blocks > 0 and not self._rival:
            return Moment(speech=True, noise=False)
        known = doa is not None and look_deg is not None
        speech = not known and power > _SPEECH_OVER_FLOOR * floor and matters
        return Moment(speech, self._power < _OVER_FLOOR * floor, self._rival and matters)

    @property
    def _rival(self) -> bool:
        heard = self._there + self._elsewhere
        return self._elsewhere > _RIVAL_BLOCKS and self._elsewhere > _RIVAL_SHARE * heard

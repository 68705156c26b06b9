"""Where a beam looks: at the user, who may move, and not at every sound. Pure."""

from __future__ import annotations

from appliance.audio.blocks import BLOCK_MS
from appliance.capture.doa import Direction

_SAME_DEG = 20.0
_CONFIDENT = 0.8
_FIRST_MS = 200
_SWITCH_MS = 500
_FOLLOW = 0.02


class LookDirection:
    """The direction of the user, held through pauses and short disturbances.

    Args:
        fixed_deg: where the user always is; None to follow whoever speaks.
    """

    def __init__(self, fixed_deg: float | None = None) -> None:
        self._fixed_deg = fixed_deg
        self._held_deg: float | None = fixed_deg
        self._other_deg: float | None = None
        self._other_blocks = 0
        self._kept = False

    def keep(self, azimuth_deg: float | None) -> None:
        """Look there and at nobody else until told otherwise; None to follow whoever speaks."""
        if azimuth_deg is not None and not self._kept:
            self._held_deg, self._other_blocks = azimuth_deg, 0
        self._kept = azimuth_deg is not None

    def process(self, direction: Direction | None) -> float | None:
        """Take the running direction of a block; give where to look, None before the first speech.

        Small moves are followed smoothly; another direction counts once speech has come from it
        confidently for half a second.
        """
        if self._fixed_deg is not None:
            return self._fixed_deg
        if direction is None or direction.confidence < _CONFIDENT:
            self._other_blocks = max(0, self._other_blocks - 1)
            return self._held_deg
        azimuth_deg = direction.azimuth_deg
        if self._held_deg is not None:
            turn_deg = _turn_deg(azimuth_deg, self._held_deg)
            if abs(turn_deg) < _SAME_DEG:
                self._other_blocks = 0
                self._held_deg = (self._held_deg + _FOLLOW * turn_deg) % 360
                return self._held_deg
        if self._kept:
            return self._held_deg
        if self._other_deg is None or abs(_turn_deg(azimuth_deg, self._other_deg)) > _SAME_DEG:
            self._other_blocks = 0
        self._other_deg = azimuth_deg
        self._other_blocks += 1
        needed_ms = _FIRST_MS if self._held_deg is None else _SWITCH_MS
        if self._other_blocks * BLOCK_MS >= needed_ms:
            self._held_deg = azimuth_deg
            self._other_blocks = 0
        return self._held_deg


def _turn_deg(to_deg: float, from_deg: float) -> float:
    """-180 to 180, counter-clockwise positive."""
    return (to_deg - from_deg + 180) % 360 - 180

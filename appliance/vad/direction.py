"""One direction for a stretch of speech, from the directions of its blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LOUD_DB = 12.0
"""Blocks this far below the loudest one tell more about the room than about the speaker."""
_MOST_BLOCKS = 200
_FEWEST_BLOCKS = 3


def direction_of_speech(
    directions_deg: Sequence[float | None], levels_db: Sequence[float]
) -> float | None:
    """The circular median over the loud blocks, robust against blocks that look elsewhere.

    Args:
        directions_deg: of each block, None where it is not known.
        levels_db: level of each block, as many.

    Returns:
        Degrees from 0 to below 360; None when too few blocks know their direction.
    """
    known = [
        (direction, level)
        for direction, level in zip(directions_deg, levels_db, strict=True)
        if direction is not None
    ]
    if len(known) < _FEWEST_BLOCKS:
        return None
    floor_db = max(level for _, level in known) - _LOUD_DB
    loud = np.array([direction for direction, level in known if level >= floor_db])
    loud = loud[:: 1 + len(loud) // _MOST_BLOCKS]
    apart = np.abs((loud[:, None] - loud[None, :] + 180.0) % 360.0 - 180.0)
    return float(loud[np.argmin(apart.sum(axis=1))] % 360.0)


def apart_deg(one_deg: float, other_deg: float) -> float:
    """The angle between two bearings, 0 to 180."""
    return abs((one_deg - other_deg + 180.0) % 360.0 - 180.0)

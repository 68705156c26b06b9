"""Where speech ends to 10 ms, from the level of the blocks around what the detector says. Pure.

The detector works in frames of 32 ms and lags; latency is measured from the last audible bit of
speech, so its end is looked for again in the levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BELOW_PEAK_DB = 40.0
"""What is this far below the loudest block of the speech is not speech any more."""
ABOVE_FLOOR_DB = 9.0
"""In noise the end of speech is where it comes this close to the noise."""
SEARCH_BLOCKS = 25
"""How far from the detector's opinion to look, in blocks of 10 ms."""
_FLOOR_PERCENTILE = 10


def refine_end(levels_db: NDArray[np.float64], hint: int) -> int:
    """The block after the last one that holds speech.

    Args:
        levels_db: level of each block in dB, shape (n,): the speech and what came after it.
        hint: the detector's opinion, an index into ``levels_db`` (exclusive end).
    """
    first, last = max(0, hint - SEARCH_BLOCKS), min(len(levels_db), hint + SEARCH_BLOCKS)
    if last <= first:
        return hint
    floor_db = float(np.percentile(levels_db, _FLOOR_PERCENTILE))
    peak_db = float(levels_db.max())
    if peak_db - floor_db < ABOVE_FLOOR_DB:
        return hint  # no contrast to go by
    threshold_db = max(peak_db - BELOW_PEAK_DB, floor_db + ABOVE_FLOOR_DB)
    loud = np.flatnonzero(levels_db[first:last] > threshold_db)
    return first + int(loud[-1]) + 1 if len(loud) else hint

"""Where to divide audio that is heard piece by piece. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.asr.features import SAMPLE_RATE_HZ
from appliance.asr.words import HeardWord

MAX_PIECE_S = 29.0
_SEARCH_S = 8.0
"""A piece ends somewhere in its last stretch of this length."""
_PAUSE_BLOCKS = 20
_PAUSE_DROP_DB = 20.0
"""A pause is this far below the loud parts; a cut anywhere else needs an overlap."""
_OVERLAP_S = 1.0
_MAX_AMPLITUDE = 100.0
"""Full scale is 1."""
_BLOCK = SAMPLE_RATE_HZ // 100
_SMOOTH_BLOCKS = 5
_SHORTEST_WORD_BLOCKS, _LONGEST_WORD_S = 10, 1.5
_SPEECH_ABOVE_FLOOR_DB = 10.0
_SPEECH_BELOW_LOUD_DB = 20.0
_UNHEARD_BLOCKS = 50
"""Less speech than half a second after the last word is the end of that word."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a long recording, in samples."""

    start: int
    end: int
    overlaps: bool
    """Its beginning repeats the end of the piece before."""


def finite(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``samples`` with silence where they are no sound: one NaN spoils every feature."""
    good = np.abs(samples) <= _MAX_AMPLITUDE
    return samples if good.all() else np.where(good, samples, np.float32(0.0))


def levels_db(samples: NDArray[np.float32], blocks: int = 1) -> NDArray[np.float64]:
    """Return the level every 10 ms, over ``blocks`` of them around it."""
    count = len(samples) // _BLOCK
    if count == 0:
        return np.zeros(0)
    squares = np.square(samples[: count * _BLOCK], dtype=np.float64)
    power = np.mean(squares.reshape(-1, _BLOCK), axis=1)
    smooth = np.convolve(power, np.full(blocks, 1.0 / blocks), mode="same") if blocks > 1 else power
    return np.asarray(10.0 * np.log10(smooth[:count] + 1e-10), np.float64)


def split_at_pauses(samples: NDArray[np.float32]) -> Iterator[Piece]:
    """Cut audio into pieces that Whisper can hear at once, in pauses where there are any.

    Together the pieces hold every sample. Where no pause is found the pieces overlap by two
    seconds around the quietest moment.
    """
    start, overlaps = 0, False
    max_samples = round(MAX_PIECE_S * SAMPLE_RATE_HZ)
    overlap = round(_OVERLAP_S * SAMPLE_RATE_HZ)
    while len(samples) - start > max_samples:
        latest = start + max_samples - overlap
        cut, in_pause = _quietest(samples[start:latest])
        cut += start
        yield Piece(start, cut if in_pause else cut + overlap, overlaps)
        start, overlaps = (cut, False) if in_pause else (cut - overlap, True)
    if start < len(samples):
        yield Piece(start, len(samples), overlaps)


def _quietest(samples: NDArray[np.float32]) -> tuple[int, bool]:
    """Return the middle of the quietest 200 ms in the last 8 s, and whether that is a pause."""
    loud_db = float(np.percentile(levels_db(samples), 90))
    smooth = levels_db(samples, _PAUSE_BLOCKS)[_PAUSE_BLOCKS // 2 : -_PAUSE_BLOCKS // 2]
    first = max(0, len(smooth) - round(_SEARCH_S * 100))
    quietest = first + int(np.argmin(smooth[first:]))
    in_pause = float(smooth[quietest]) <= loud_db - _PAUSE_DROP_DB
    return (quietest + _PAUSE_BLOCKS // 2) * _BLOCK, in_pause


def unheard_from(samples: NDArray[np.float32], words: Sequence[HeardWord]) -> int | None:
    """Return the sample from which on speech was not heard, if a hearing stopped early.

    Whisper ends a text now and then where a pause or another voice comes, whatever follows. The
    times of its words tell; its certainty does not always.
    """
    if not words:
        return None
    last = words[-1]
    heard_s = max(last.start_s, min(last.end_s, last.start_s + _LONGEST_WORD_S))
    levels = levels_db(samples, _SMOOTH_BLOCKS)
    heard = round(100 * heard_s)
    if len(levels) - heard < _UNHEARD_BLOCKS:
        return None
    floor_db, loud_db = np.percentile(levels, (5, 95))
    speech_db = max(floor_db + _SPEECH_ABOVE_FLOOR_DB, loud_db - _SPEECH_BELOW_LOUD_DB)
    if np.count_nonzero(levels[heard:] > speech_db) < _UNHEARD_BLOCKS:
        return None
    first = round(100 * last.start_s) + _SHORTEST_WORD_BLOCKS
    between = levels[first : heard + _PAUSE_BLOCKS]
    return (first + int(np.argmin(between))) * _BLOCK

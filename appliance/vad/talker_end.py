"""When the talker fell silent, in a room that did not yet. Pure, once per pause.

After the last word a room goes on for RT60 / 60 dB for every dB: the level alone says that speech
ends when the reverberation does. But a room's energy is the exponentially decaying memory of what
was put into it (Polack's model; Lebart et al., "A new method based on spectral subtraction for
speech dereverberation", 2001). What a stretch holds beyond the decayed rest of the stretch before
is new, and the talker is heard to speak as long as something is: as long as the new exceeds the
threshold of speech, 15.9 dB below the active speech level (ITU-T P.56), and most of what is there.

The decay is that of this room, found in the same seconds: nothing falls faster than the room lets
it, so it is the steepest steady fall. The level is the mean of the bands' levels in dB: that
fluctuates by tenths of a decibel where the power itself, most of it in a few harmonics, does by
some, and bands of noise alone are left out of it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from appliance.audio.blocks import RATE_HZ, Samples

Levels = NDArray[np.floating]

P56_MARGIN_DB = 15.9
"""What is so far below the active speech level is no speech (ITU-T P.56)."""
_ACTIVE_DB = 25.0
"""The active level is the mean of what is within this range of the loud."""
HEARD_SAMPLES = 8 * RATE_HZ
"""Levels of speech and noise are those of so much before the pause; more is not looked at."""
_LATELY_SAMPLES = 8 * RATE_HZ // 5
"""The end is looked for in so much before now."""
_WINDOW = 256
_HOP = 64
_COARSE_HOP = 8 * _HOP
_BAND_EDGES = (3, 5, 7, 9, 11, 14, 17, 20, 24, 28, 33, 39, 46, 54, 64, 76, 90, 112)
"""Bins of 62.5 Hz, bands of a third of an octave and more between 190 Hz and 7 kHz."""
_USEFUL_DB = 15.0
"""A band counts whose speech is so far above its noise, if there are three."""
_FEWEST_BANDS = 3
_ABOVE_NOISE_DB = 2.0
_FALL_FRAMES = 16
"""64 ms: a fall that lasts is the room's; ..."""
_FALL_ABOVE_NOISE_DB = 4.0
_STRAIGHT_DB = 1.5
"""...it deviates so much from a straight line at most, ..."""
_STEEPEST_PERCENT = 5.0
"""...and is among the steepest so many percent."""
_NEW_FRAMES = 12
"""48 ms: what is new is looked for in stretches of this length."""
_NEW_DB = -2.0
"""New must be so much of what is there: the rest is chance."""
_WEIGHTS = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
_BANDS = np.array(
    [
        np.eye(_BAND_EDGES[-1], dtype=np.float32)[first:last].mean(axis=0)
        for first, last in pairwise(_BAND_EDGES)
    ]
).T
"""Shape (bins, bands): the mean over each band."""
_AT_ONCE = 50
"""Frames; larger arrays would be new memory every time."""
_SILENCE = np.float32(1e-12)


def talker_end(samples: Samples) -> int | None:
    """One past the talker's last sample, as far as the room lets it be known.

    Costs a millisecond.

    Args:
        samples: shape (n,), 16 kHz: the speech and the pause after it, up to now, and if possible
            something from before; the last 8 s count.

    Returns:
        An index into `samples`; None where nothing stands out of the noise.
    """
    heard = samples[-HEARD_SAMPLES:]
    if len(heard) < _WINDOW + (_FALL_FRAMES + _NEW_FRAMES) * _HOP:
        return None
    lately = heard[-_LATELY_SAMPLES:]
    coarse, fine = _band_levels(heard, _COARSE_HOP), _band_levels(lately, _HOP)
    noise, speech = np.percentile(coarse, (10, 97), axis=0)
    useful = speech - noise > _USEFUL_DB
    if np.count_nonzero(useful) < _FEWEST_BANDS:
        useful[:] = True
    floor_db = float(noise[useful].mean())
    spoken_db = coarse[:, useful].mean(axis=1)
    loud = spoken_db > max(np.percentile(spoken_db, 95) - _ACTIVE_DB, floor_db + _ABOVE_NOISE_DB)
    if not loud.any():
        return None
    threshold = np.power(10.0, spoken_db[loud] / 10).mean() * 10 ** (-P56_MARGIN_DB / 10)
    noise_power = 10 ** (floor_db / 10)
    power = np.power(10.0, fine[:, useful].mean(axis=1) / 10)
    power = np.maximum(power - noise_power, 0.3 * noise_power)
    now, before = _stretches(power)
    left = before * 10 ** (_room_fall_db(power, floor_db) * _NEW_FRAMES / 10)
    share = 1 - left / before  # of a steady sound, that is new within a stretch
    new = (now - left) / share
    spoken = (
        (new > threshold)
        & (new > now * 10 ** (_NEW_DB / 10))
        & (now > noise_power * 10 ** (_ABOVE_NOISE_DB / 10))
    )
    if not spoken.any():
        return None
    last = int(np.flatnonzero(spoken)[-1]) + _NEW_FRAMES + _NEW_FRAMES // 2
    return len(samples) - len(lately) + last * _HOP + _WINDOW // 2


def _band_levels(samples: Samples, hop: int) -> Levels:
    """Level of every band in dB, shape (frames, bands); frame k begins at sample k * hop."""
    frames = sliding_window_view(samples, _WINDOW)[::hop]
    starts = range(0, len(frames), _AT_ONCE)
    power = [_band_power(frames[start : start + _AT_ONCE]) for start in starts]
    levels: Levels = 10 * np.log10(np.concatenate(power) + _SILENCE)
    return levels


def _band_power(frames: Samples) -> Levels:
    spectra = np.fft.rfft(frames * _WEIGHTS, axis=1)[:, : _BAND_EDGES[-1]]
    power: Levels = (np.square(spectra.real) + np.square(spectra.imag)) @ _BANDS
    return power


def _stretches(power: Levels) -> tuple[Levels, Levels]:
    """Mean power of every stretch that another one precedes, and that of the one before it."""
    means = sliding_window_view(power, _NEW_FRAMES).mean(axis=1)
    return means[_NEW_FRAMES:], means[:-_NEW_FRAMES]


def _room_fall_db(power: Levels, floor_db: float) -> float:
    """How much the level changes per frame when nobody speaks any more, negative."""
    levels = sliding_window_view(10 * np.log10(power), _FALL_FRAMES)
    line = np.arange(_FALL_FRAMES) - (_FALL_FRAMES - 1) / 2
    slopes = levels @ line / (line @ line)
    middles = levels.mean(axis=1)
    deviations = levels - middles[:, None] - slopes[:, None] * line
    straight = np.sqrt(np.square(deviations).mean(axis=1)) < _STRAIGHT_DB
    falls = slopes[straight & (levels[:, -1] > floor_db + _FALL_ABOVE_NOISE_DB)]
    steepest = float(np.percentile(falls, _STEEPEST_PERCENT)) if len(falls) else -np.inf
    return min(steepest, -1e-3)

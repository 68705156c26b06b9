"""What a loudspeaker's recording tells of a conversation. Pure: samples and times, no devices.

A level is the RMS of 5 ms of the loudspeaker's signal. `Playing` is a stretch of it that begins
before the moment in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.asr.evaluation import normalise
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.audio.player import AUDIBLE
from appliance.bench.metrics import active_rms
from appliance.vad.talker_end import P56_MARGIN_DB

FRAME_MS = 5
DUCKED_DB = 10.0
"""So much lower than before counts as ducked."""
_LOUD_PERCENTILE = 95
_REFERENCE_MS = 2_000
"""The level before is that of the loud sounds in so long a time."""
DUCK_HOLD_MS = 300
"""The level stays low for so long; the gaps between syllables and words are shorter."""
SILENCE_MS = 400
"""A silence of this length is one: the pauses between spoken sentences are shorter."""


@dataclass(frozen=True, eq=False)
class Playing:
    """What the loudspeaker played from `start_ns` on."""

    start_ns: int
    """CLOCK_MONOTONIC time of the first sample."""
    samples: Samples
    """Shape (n,)."""
    rate_hz: int

    def time_of(self, sample: int) -> int:
        """When a sample was played, nanoseconds."""
        return self.start_ns + sample * 1_000_000_000 // self.rate_hz

    def index_of(self, time_ns: int) -> int:
        """The sample that is played at a time, within the recording."""
        index = (time_ns - self.start_ns) * self.rate_hz // 1_000_000_000
        return min(max(0, index), len(self.samples))

    def levels(self) -> NDArray[np.float64]:
        """RMS of each whole frame of 5 ms."""
        frame = self.rate_hz * FRAME_MS // 1000
        whole = len(self.samples) // frame * frame
        power = np.square(self.samples[:whole].reshape(-1, frame), dtype=np.float64).mean(axis=1)
        levels: NDArray[np.float64] = np.sqrt(power)
        return levels


def audible_at(playing: Playing, time_ns: int, within_ms: float = SILENCE_MS) -> bool:
    """Whether something is heard at a moment: it lies in no silence of `within_ms` or more."""
    audible = np.flatnonzero(np.abs(playing.samples) > AUDIBLE)
    moment = playing.index_of(time_ns)
    before, after = audible[audible <= moment], audible[audible > moment]
    if not len(before) or not len(after):
        return False
    gap = int(after[0]) - int(before[-1])
    return gap < within_ms * playing.rate_hz / 1000


def ducked_ms(playing: Playing, onset_ns: int) -> float | None:
    """From an onset until the loudspeaker is 10 dB lower, silence included; None if it never is.

    Speech has its own ups and downs, so the level before is that of its loud sounds, and lower is
    what nothing exceeds for 300 ms. The moment is the end of the last loud sound: where the level
    falls inside a gap between two words, that is the beginning of the gap. 0 says that the onset
    itself lay in such a gap, and so nothing. The recording must go on for those 300 ms.
    """
    levels = playing.levels()
    onset = playing.index_of(onset_ns) * 1000 / playing.rate_hz / FRAME_MS
    before = levels[max(0, int(onset) - _REFERENCE_MS // FRAME_MS) : int(onset)]
    heard = before[before > AUDIBLE]
    if not len(heard):
        return None
    loud = float(np.percentile(heard, _LOUD_PERCENTILE)) * 10 ** (-DUCKED_DB / 20)
    start = _first_run(levels <= loud, int(onset), DUCK_HOLD_MS // FRAME_MS)
    if start is None:
        return None
    end_ns = playing.start_ns + start * FRAME_MS * 1_000_000
    return max(0.0, (end_ns - onset_ns) / 1e6)


def silent_ms(playing: Playing, onset_ns: int, silence_ms: float = SILENCE_MS) -> float | None:
    """From an onset until the last audible sample before a silence; None if there is no silence."""
    first = playing.index_of(onset_ns)
    quiet = np.abs(playing.samples) <= AUDIBLE
    start = _first_run(quiet, first, round(silence_ms * playing.rate_hz / 1000))
    if start is None:
        return None
    return max(0.0, (playing.time_of(start) - onset_ns) / 1e6)


def longest_gap_ms(playing: Playing, from_ns: int, to_ns: int) -> float:
    """The longest silence that touches a stretch of time, as far as it was recorded."""
    audible = np.flatnonzero(np.abs(playing.samples) > AUDIBLE)
    edges = np.concatenate([[-1], audible, [len(playing.samples)]])
    begins, ends = edges[:-1] + 1, edges[1:]
    touching = (ends > playing.index_of(from_ns)) & (begins < playing.index_of(to_ns))
    longest = np.max((ends - begins)[touching], initial=0)
    return float(longest) * 1000 / playing.rate_hz


def _first_run(holds: NDArray[np.bool_], first: int, length: int) -> int | None:
    """Where the first run of `length` true values begins that lasts beyond or starts at `first`."""
    edges = np.diff(np.concatenate([[0], holds[first:].astype(np.int8), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long_enough = np.flatnonzero(ends - begins >= length)
    return first + int(begins[long_enough[0]]) if len(long_enough) else None


def active_end(samples: Samples) -> int:
    """One past the last sample of active speech (n,), 16 kHz, as said; n of silence.

    Active is what lies less than 15.9 dB below the active speech level: ITU-T P.56 has this margin
    between the level and the threshold. Fading and releases come after it, and weak last
    consonants: on 180 dry sayings 27 ms in the median, 145 ms at the 95th percentile, until 40 dB
    below the loudest (`speech_bounds`).
    """
    threshold = (active_rms(samples) * 10 ** (-P56_MARGIN_DB / 20)) ** 2
    frame = RATE_HZ // 100
    power = np.convolve(np.square(samples, dtype=np.float64), np.full(frame, 1 / frame), "same")
    active = np.flatnonzero((power > threshold) & (threshold > 0))
    return int(active[-1]) + 1 if len(active) else len(samples)


def words_heard(said: str, heard: str) -> float:
    """Share of the words said that a transcript has, in order; what else it has is forgiven."""
    import jiwer  # of the development dependencies

    reference, hypothesis = normalise(said), normalise(heard)
    if not reference or not hypothesis:
        return 0.0
    return jiwer.process_words(reference, hypothesis).hits / len(reference.split())


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Percentile of what there is; None of nothing."""
    return round(float(np.percentile(values, percent)), 1) if values else None


def share_percent(hits: int, of: int) -> float | None:
    """Hits in percent; None of nothing."""
    return round(100 * hits / of, 2) if of else None

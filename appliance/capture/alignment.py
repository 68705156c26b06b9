"""The far-end reference on the microphone's clock: bulk delay and clock drift, found online."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.capture.delay import CoarseSearch, Template
from appliance.capture.drift import DriftFilter
from appliance.capture.fractional import FractionalReader, History

_PPM = 1e-6

_COARSE_BLOCKS = 20
_ACTIVE_BLOCKS = 15
"""So much of the last half second must be far-end activity before a search is worth it."""
_STRONG = 10.0
_LEADING = 2.0
"""Of an echo's peak; two people's speech reaches 11.5 and 3.4 in eight minutes, but not twice."""
_HITS, _HITS_ELSEWHERE = 2, 3
"""So many peaks at the same place in a row are an echo, and are one that has moved."""
_SAME_PLACE = 16
"""Two coarse delays are the same one within this many samples."""
_GONE = 0.6
"""The echo has left its place if a rival is this much higher than what is left there."""

_FINE_BLOCKS, _DOUBT_BLOCKS = 13, 3
"""How often the echo's place is measured, and while it is in doubt or seems to have moved."""
_LONGEST_DOUBT_BLOCKS = 150
"""Of far-end: after so many an unverified place is not waited for any longer."""
_SURE = 6.0
"""Strength of a fine peak that noise does not reach."""
_CERTAIN, _SHORT_BLOCKS = 9.0, 20
"""Likewise after less than so many blocks of far-end."""
_LIKELY = 4.5
"""As `_SURE`, within `_NEAR` samples of where the peak is expected."""
_NEAR = 4
_MISSES = 3
"""After so many frames without an echo at its place it is looked for elsewhere."""
_STALE = 12
"""After so many, if it is still there, the room has become another one."""
_FLOOR_SAMPLES = 0.02
_CAUTION = 2.0
_YOUNG = 8
_GATE = 5.0
_OUTLIERS = 4
_STEADY = 16
"""A delay that jumps again before so many frames agreed with it, does not jump but drifts."""
_HOPELESS = 16
"""After so many in a row that do not agree, the drift was wrong."""
_AGREEING_SAMPLES = 1.0
_TEMPLATE_FRAMES = 60
_UNKNOWN_DRIFT = 150 * _PPM
_SETTLED_DRIFT = 3 * _PPM
_JUMPED_DRIFT = 5 * _PPM
_LARGEST_SLEW = 500 * _PPM
_LARGEST_SLEWED = 4.0


@dataclass(frozen=True)
class AlignmentSettings:
    """How far and how finely the echo is looked for.

    Attributes:
        min_delay_ms: smallest delay of the echo; negative where time-stamps are imprecise.
        max_delay_ms: largest delay that is looked for.
        margin_ms: how long after the aligned reference the echo's direct path shall come.
        max_drift_ppm: largest difference of the two clocks.
        wander_ppm: how far the drift wanders in one second (random walk), by temperature.
        activity_dbfs: level below which the far-end is taken for silence.
    """

    min_delay_ms: float = -10.0
    max_delay_ms: float = 500.0
    margin_ms: float = 2.0
    max_drift_ppm: float = 500.0
    wander_ppm: float = 0.02
    activity_dbfs: float = -65.0


@dataclass(frozen=True)
class Aligned:
    """One block of the aligned reference.

    Attributes:
        samples: shape (160,).
        shift_samples: by how much later than before the reference comes from this block on, where
            it is not the room that moved: an adaptive filter shall move its taps as much earlier.
            When it has relocked: than the taps that fitted before.
        relocked: the echo's delay had jumped and the reference follows it from this block on: the
            taps that fitted before the jump fit again.
        placed: False while the echo's place is one from before that was not yet seen to be right.
        past: when the reference has moved: what it would have been before this block, had it come
            so all the time; whole blocks, (n,).
    """

    samples: Samples
    shift_samples: float = 0.0
    relocked: bool = False
    placed: bool = True
    past: Samples | None = None


class ReferenceAligner:
    """Delays and resamples what the loudspeaker played so that it fits one microphone's echo.

    1. A GCC-PHAT over all delays finds the echo, once it is at the same place repeatedly.
    2. From then on every 0.13 s the aligned reference is compared with the microphone (`Template`);
       a Kalman filter makes delay and drift of it (`DriftFilter`), and the reference is read along
       that line. Its slope follows at once; its offset is left alone until the drift is known, for
       a canceller minds motion and not distance.
    3. If the echo is no longer where it should be, the wide search starts again, and the delay
       jumps once the echo is found elsewhere and not at its place.

    While nothing is played, the line is extrapolated. Delays are counted in samples of the
    microphone's stream against the far-end's stream, both since their start.

    Args:
        settings: ranges and margins.
    """

    def __init__(self, settings: AlignmentSettings | None = None) -> None:
        self._settings = settings = settings or AlignmentSettings()
        self._margin = settings.margin_ms * RATE_HZ / 1000
        self._threshold = 10 ** (settings.activity_dbfs / 10)
        self._coarse = CoarseSearch(
            min(0, round(settings.min_delay_ms * RATE_HZ / 1000)),
            round(settings.max_delay_ms * RATE_HZ / 1000),
        )
        self._template = Template()
        self._line = DriftFilter(settings.wander_ppm * _PPM / np.sqrt(RATE_HZ))
        self._line.start(0.0, 0.0, 0.0, _UNKNOWN_DRIFT)
        self._reader = FractionalReader()
        self._far = History(self._coarse.span + RATE_HZ // 2)
        self._mic = History(self._coarse.span + RATE_HZ // 2)
        blocks = -(-self._template.frame // BLOCK_SAMPLES)
        self._reference = History(blocks * BLOCK_SAMPLES)
        self._applied = 0.0
        """Delay with which the next sample of the reference is read."""
        self._offset = -self._margin
        """What the applied delay shall be, less the echo's."""
        self._track: NDArray[np.float64] = np.zeros(blocks)
        """Delay applied in each of the reference's last blocks."""
        shape = np.zeros(blocks * BLOCK_SAMPLES)
        shape[-self._template.frame :] = np.hanning(self._template.frame) ** 2
        self._shares = shape.reshape(blocks, BLOCK_SAMPLES).sum(axis=1) / shape.sum()
        self._longest_active = self._coarse.frame // BLOCK_SAMPLES
        self._sounded = 0
        self._active = 0
        self._since_coarse = self._since_fine = 0
        self._candidate = 0.0
        self._outliers: list[float] = []
        self._missed = self._agreed = self._hits = 0
        self._found = self._locked = self._settled = self._placing = False
        self._relocks = 0
        self._doubtful_blocks = 0
        """Blocks with far-end until which a place from before counts as not verified."""
        self._shift, self._relocked, self._moved = 0.0, False, False

    @property
    def delay_ms(self) -> float:
        """By how much the echo comes after the far-end's block of the same time (direct path)."""
        return (self._line.delay - self._lead) * 1000 / RATE_HZ

    @property
    def applied_ms(self) -> float:
        """By how much the reference comes after the far-end's block of the same time."""
        return (self._applied - self._lead) * 1000 / RATE_HZ

    @property
    def drift_ppm(self) -> float:
        """How much faster the playback's clock runs than the microphone's."""
        return -self._line.drift / _PPM

    @property
    def locked(self) -> bool:
        """The echo was found, and seen where it was found when something was last played."""
        return self._locked and self._missed <= _STALE

    @property
    def relocks(self) -> int:
        """How often the echo was found elsewhere than before."""
        return self._relocks

    @property
    def too_late_ms(self) -> float:
        """How much the far-end's stream must be held back for the echo to come after it.

        Above 0 where the echo comes before even the newest sample that can be given.
        """
        earliest = self._lead + FractionalReader.HALF + 1
        late = earliest - self._line.delay if self._found else 0.0
        return max(0.0, late) * 1000 / RATE_HZ

    @property
    def _lead(self) -> int:
        """Samples that the microphone's stream is longer than the far-end's."""
        return self._mic.end - self._far.end

    def state(self) -> dict[str, NDArray[Any]]:
        """What is worth keeping of a lock: delay, drift and the room's template; else nothing."""
        if not self._locked:
            return {}
        line = [self._line.delay - self._lead, self._line.drift, self._offset]
        return {"line": np.array(line), "template": self._template.average.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Use a kept delay and drift at once, and verify them as soon as something is played."""
        line, template = state.get("line"), state.get("template")
        if line is None or template is None or template.shape != self._template.average.shape:
            return
        if line.shape != (3,) or not (np.isfinite(line).all() and np.isfinite(template).all()):
            return
        delay, drift, offset = line.tolist()
        self._line.start(delay + self._lead, _SAME_PLACE, drift, _JUMPED_DRIFT)
        self._template.restore(template, _TEMPLATE_FRAMES)
        self._offset = offset
        self._found = self._settled = True
        self._locked = False
        self._doubtful_blocks = _LONGEST_DOUBT_BLOCKS
        self._move(self._line.delay + offset, relocked=True)

    def rewrite(self, past: Samples) -> None:
        """Put another past of the far-end (n,), whole blocks, in the place of what was given."""
        self._far.rewrite(past)
        powers = np.square(past).reshape(-1, BLOCK_SAMPLES).mean(axis=1)
        heard = powers[-max(1, self._mic.end // BLOCK_SAMPLES) :]
        self._active = min(int(np.count_nonzero(heard > self._threshold)), self._longest_active)
        if powers.any():
            self._sounded = self._far.end
        if self._found:
            self._move(self._line.delay + self._offset, relocked=True)

    def doubt(self) -> None:
        """One of the streams was interrupted: the echo is where it was, but for a little."""
        if self._settled and (state := self.state()):
            self._mic.rewrite(np.zeros(self._template.frame, np.float32))
            self._active = 0
            self.restore(state)

    def process(self, far: Samples, mic: Samples) -> Aligned:
        """Take what was played (160,) and what one microphone heard (160,) at that time.

        `far` may also be longer, shorter or empty where the playback's stream is brought back in
        step with the microphone's: that alone does not move the aligned reference.
        """
        self._take(far, mic)
        self._since_fine += 1
        self._since_coarse += 1
        asked = self._doubtful or 0 < len(self._outliers) < _OUTLIERS
        if self._found and self._since_fine >= (_DOUBT_BLOCKS if asked else _FINE_BLOCKS):
            self._since_fine = 0
            self._follow()
        elif self._since_coarse >= _COARSE_BLOCKS and self._searching:
            self._since_coarse = 0
            self._search()
        samples = self._read()
        past = None
        if self._moved:
            before = self._reference.end - BLOCK_SAMPLES
            past = self._reference.window(before, self._reference.length - BLOCK_SAMPLES).copy()
        aligned = Aligned(samples, self._shift, self._relocked, not self._doubtful, past)
        self._shift, self._relocked, self._moved = 0.0, False, False
        return aligned

    def _take(self, far: Samples, mic: Samples) -> None:
        power = float(np.dot(far, far)) / BLOCK_SAMPLES
        if not math.isfinite(power):
            far, power = np.zeros_like(far), 0.0
        if not math.isfinite(float(np.dot(mic, mic))):
            mic = np.zeros_like(mic)
        self._far.append(far)
        self._mic.append(mic)
        self._line.advance(BLOCK_SAMPLES)
        if power > 0:
            self._sounded = self._far.end
        if power > self._threshold:
            self._doubtful_blocks = max(0, self._doubtful_blocks - 1)
            self._active = min(self._active + 1, self._longest_active)
        else:
            self._active = max(self._active - 1, 0)

    @property
    def _doubtful(self) -> bool:
        return self._doubtful_blocks > 0

    @property
    def _searching(self) -> bool:
        return (not self._locked or self._missed >= _MISSES) and self._active > _ACTIVE_BLOCKS

    def _search(self) -> None:
        """Look for the echo at all delays; believe what is found at the same place repeatedly."""
        peak = self._coarse.search(
            self._far.window(self._far.end, self._coarse.span),
            self._mic.window(self._mic.end + self._coarse.first, self._coarse.frame),
            self._line.delay - self._lead if self._found else None,
        )
        if peak.strength < _STRONG or peak.lead < _LEADING:
            self._hits = 0
            return
        delay = float(peak.delay + self._lead)
        self._hits = self._hits + 1 if abs(delay - self._candidate) <= _SAME_PLACE else 1
        self._candidate = delay
        if self._hits < (_HITS_ELSEWHERE if self._locked else _HITS):
            return
        if not self._template.frames:
            self._found = True
            self._line.jump(delay, _SAME_PLACE, self._line.drift_deviation)
            self._move(self._applied + round(delay + self._offset - self._applied), relocked=False)
        elif abs(delay - self._line.delay) > _SAME_PLACE and peak.at_expected < _GONE:
            self._jump(delay, _SAME_PLACE)
        elif self._missed > _STALE:
            self._template.reset()
        else:
            return
        self._missed = self._hits = 0
        self._coarse.reset()

    def _follow(self) -> None:
        """Measure the echo's delay behind the aligned reference and correct the line."""
        end, frame = self._reference.end, self._template.frame
        reference = self._reference.window(end, frame)
        if np.dot(reference, reference) < self._threshold * frame:
            return
        applied = float(np.dot(self._track, self._shares))
        age = self._mic.end - end + frame // 2
        expected = self._line.delay - age * self._line.drift - applied
        within = _NEAR if self._template.frames else _SAME_PLACE
        phases, shift = self._template.measure(
            reference, self._mic.window(end, frame), expected, within
        )
        surprising = abs(shift.samples - expected) > within + 1 or not self._template.frames
        needed = _SURE if surprising else _LIKELY
        if self._doubtful and self._active < _SHORT_BLOCKS:
            needed = _CERTAIN
        if shift.strength < needed:
            self._missed += 1
            return
        measured = applied + shift.samples
        young = 1 + _YOUNG / max(1, self._template.frames)
        variance = _CAUTION * young * shift.variance + _FLOOR_SAMPLES**2
        if self._doubtful:
            self._relocks += abs(shift.samples - expected) > _NEAR
            self._line.jump(measured + self._line.drift * age, _AGREEING_SAMPLES, _JUMPED_DRIFT)
        if self._settled and self._line.deviation_of(measured, variance, age) > _GATE:
            self._deviate(measured + self._line.drift * age)
            return
        self._outliers.clear()
        self._missed = 0
        self._agreed += 1
        self._line.update(measured, variance, age)
        self._template.learn(phases, shift.samples, _TEMPLATE_FRAMES)
        self._locked = True
        self._settled = self._settled or self._line.drift_deviation < _SETTLED_DRIFT
        if not self._settled:
            self._offset = self._applied - self._line.delay
        elif self._placing:
            self._move(self._line.delay + self._offset, relocked=True)
        self._placing = False
        self._doubtful_blocks = 0

    def _deviate(self, delay: float) -> None:
        """Believe a delay off the line once several in a row agree on it."""
        self._outliers.append(delay - self._line.delay)
        last = self._outliers[-_OUTLIERS:]
        if len(last) == _OUTLIERS and max(last) - min(last) < _AGREEING_SAMPLES:
            self._jump(delay, _AGREEING_SAMPLES)
        elif len(self._outliers) > _HOPELESS:
            self._settled = False
            self._line.start(delay, _SAME_PLACE, self._line.drift, _UNKNOWN_DRIFT)

    def _jump(self, delay: float, deviation: float) -> None:
        """The echo has moved: go after it, and place the reference exactly with the next frame."""
        self._outliers.clear()
        self._relocks += self._locked
        if self._agreed < _STEADY and not self._doubtful:
            self._settled = False
        drift_deviation = _JUMPED_DRIFT if self._settled else _UNKNOWN_DRIFT
        self._agreed = 0
        self._line.jump(delay, deviation, max(self._line.drift_deviation, drift_deviation))
        self._move(delay + self._offset, relocked=True)

    def _move(self, delay: float, *, relocked: bool) -> None:
        """Apply another delay from this block on."""
        moved = self._within(delay)
        self._relocked |= relocked
        if not relocked:
            self._shift += moved - self._applied
        elif moved != delay:  # what has its place in the future comes as early as it can
            self._shift += moved - delay
            self._offset += moved - delay
        self._applied = moved
        # The past of the reference as it would have been, so that the next frame can be measured.
        starts = self._reference.end - moved - BLOCK_SAMPLES * np.arange(len(self._track), 0, -1)
        past = [self._between(start, start + BLOCK_SAMPLES) for start in starts.tolist()]
        self._reference.rewrite(np.concatenate(past))
        self._track[:] = moved
        self._placing = relocked
        self._moved = True
        self._since_fine = _FINE_BLOCKS

    def _within(self, delay: float) -> float:
        """A delay that can be applied in this block and the next: neither future nor forgotten."""
        half = FractionalReader.HALF + 1
        earliest = self._lead + half
        latest = self._lead + self._far.length - self._reference.length - 2 * BLOCK_SAMPLES - half
        return min(max(delay, float(earliest)), float(latest))

    def _read(self) -> Samples:
        """The next block of the reference, and the delay moved on along the line."""
        start = self._mic.end - BLOCK_SAMPLES
        if not self._found:
            self._applied = following = float(self._lead)
        else:
            self._applied = self._within(self._applied)
            error = self._line.delay + self._offset - self._applied
            largest = _LARGEST_SLEW * BLOCK_SAMPLES
            slew = min(max(error / _FINE_BLOCKS, -largest), largest)
            following = self._within(self._applied + self._line.drift * BLOCK_SAMPLES + slew)
        samples = self._between(start - self._applied, start + BLOCK_SAMPLES - following)
        self._track[:-1] = self._track[1:]
        self._track[-1] = (self._applied + following) / 2
        self._applied = following
        self._reference.append(samples)
        return samples

    def _between(self, first: float, end: float) -> Samples:
        """160 samples of the far-end from one index of its stream to (not including) another."""
        if first - FractionalReader.HALF > self._sounded:
            return np.zeros(BLOCK_SAMPLES, np.float32)
        if first.is_integer() and end - first == BLOCK_SAMPLES:
            block: Samples = self._far.window(int(end), BLOCK_SAMPLES).copy()
            return block
        last = end - (end - first) / BLOCK_SAMPLES
        return self._reader.read(self._far, first, last)

"""Which samples the loudspeaker played while the microphone heard a block. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.capture.framer import NS_PER_SAMPLE
from appliance.ipc.audio_ring import Block

LEAD_MS = 10
"""The reference is given this much early: time-stamps err by milliseconds, and an echo must not
come before its reference."""
_STEP_NS = 15_000_000
"""Smoothed times do not step so far from one block to the next, unless samples are missing."""
_DRIFT = 500e-6
_OFF_SAMPLES, _OFF_OF_ONE_SAMPLES = 16, 160
"""So far off the time-stamps the far-end is put right; further when few blocks say so."""
_FAR_AWAY_SAMPLES = RATE_HZ // 2
"""So far off no drift leads; a count has lost its meaning."""
_FAR_BLOCKS, _MIC_BLOCKS = 5, 8
_BEFORE_SAMPLES = RATE_HZ // 2
_REMEMBERED_BLOCKS = 25
_LATE_BLOCKS = 10
"""So many late blocks in a row are no accident: then the reference is given later."""
_LONGEST_LAG_MS = 100


class _Origin:
    """When the first sample of a device stream was in the air, from noisy times of its blocks."""

    def __init__(self) -> None:
        self._next = 0
        self._newest_ns = 0
        self._observed_ns: deque[int] = deque(maxlen=_REMEMBERED_BLOCKS)

    def observe(self, position: int, at_ns: int) -> int | None:
        """Take a block's position and time.

        Returns:
            How many samples are missing before it; None if the stream was interrupted.
        """
        origin_ns = at_ns - position * NS_PER_SAMPLE
        skipped = max(0, position - self._next) if self._observed_ns else 0
        step_ns = abs(origin_ns - self._newest_ns)
        goes_on = position >= self._next and step_ns < _STEP_NS + _DRIFT * skipped * NS_PER_SAMPLE
        if skipped or not goes_on:
            self._observed_ns.clear()
        self._observed_ns.append(origin_ns)
        self._next, self._newest_ns = position + BLOCK_SAMPLES, origin_ns
        return skipped if goes_on else None

    @property
    def blocks(self) -> int:
        """Observations without a gap between them, a few dozen at most."""
        return len(self._observed_ns)

    @property
    def ns(self) -> float:
        """The best guess at present."""
        return median(self._observed_ns)


class DriftingCount:
    """Counts blocks of one clock in samples of another: 160 each, and now and then one more."""

    def __init__(self) -> None:
        self._fraction = 0.0

    def next(self, drift_ppm: float) -> int:
        """Samples of the next block, when the other clock runs so much faster."""
        exact = BLOCK_SAMPLES * (1 + drift_ppm * 1e-6) + self._fraction
        whole = round(exact)
        self._fraction = exact - whole
        return whole


class FarEndTimeline:
    """Gives for each microphone block the far-end that was played at the same time.

    Both devices count their samples. How far the counts are apart is taken from the time-stamps;
    from then on the far-end comes as one stream without a seam, which a few samples more or fewer
    per block keep in step with the microphone: by the drift that is known, and by the time-stamps
    where those say otherwise, also after a silence of hours. Whoever counts the samples of both
    streams sees a steady delay, changed by drift alone.

    When one of the devices was interrupted, both counts are brought together anew.

    Args:
        lead_ms: how much early the far-end is given, as long as it comes in time for that.
    """

    def __init__(self, lead_ms: int = LEAD_MS) -> None:
        self._lead = lead_ms * RATE_HZ // 1000
        self.anchors = 0
        """How often the two counts were brought together; a change means that the delay between
        far-end and echo may have jumped."""
        self.late_blocks = 0
        """Far-end blocks that came after the microphone's block of their time."""
        self.before = np.zeros(0, np.float32)
        """What was played (n,) before the sample at which they were brought together last."""
        self._offset: int | None = None
        """What a microphone position lacks to be the far-end position of the same time."""
        self._far, self._mic = _Origin(), _Origin()
        self._count = DriftingCount()
        self._epoch = -1
        self._blocks: deque[Block] = deque()
        self._wanted = 0
        """Far-end position of the newest microphone block."""
        self._given = 0
        """Far-end position up to which the stream was given."""
        self._late_run = 0

    @property
    def lead_ms(self) -> float:
        """How much early the far-end is given; negative where it comes too late for that."""
        return self._lead * 1000 / RATE_HZ

    @property
    def sounds_unplaced(self) -> bool:
        """Something was played of which it is not known yet when it is heard."""
        return self._offset is None and any(block.samples.any() for block in self._blocks)

    def push(self, block: Block) -> None:
        """Take a block of the speaker ring, in order."""
        goes_on = self._far.observe(block.position, block.captured_ns) is not None
        if block.epoch != self._epoch or not goes_on:
            self._epoch = block.epoch
            self._blocks.clear()
            self._offset = None
        self._blocks.append(block)
        if self._offset is None:
            return
        late = self._wanted - block.position
        self._late_run = self._late_run + 1 if late >= BLOCK_SAMPLES else 0
        self.late_blocks += late >= BLOCK_SAMPLES
        if self._late_run == _LATE_BLOCKS:
            self._late_run = 0
            # two blocks more than what was missing, for the next ones come no sooner
            lead = self._lead - late - 2 * BLOCK_SAMPLES
            lead = max(lead, -_LONGEST_LAG_MS * RATE_HZ // 1000)
            self._offset += lead - self._lead
            self._lead = lead
        elif self._mic.blocks >= _MIC_BLOCKS:
            offset = self._measured_offset()
            tolerated = max(_OFF_SAMPLES, _OFF_OF_ONE_SAMPLES // self._far.blocks)
            off = abs(offset - self._offset)
            if off > _FAR_AWAY_SAMPLES:
                self._offset = None
            elif off > tolerated:
                self._offset = offset

    def restart_microphone(self) -> None:
        """The microphone's stream was interrupted: its positions tell nothing about the past."""
        self._mic = _Origin()
        self._offset = None

    def take(self, position: int, first_sample_ns: int, drift_ppm: float = 0.0) -> Samples | None:
        """The far-end for a microphone block.

        Args:
            position: of the block's first sample in the microphone's stream, at 16 kHz.
            first_sample_ns: when that was.
            drift_ppm: how much faster the loudspeaker's clock is known to run.

        Returns:
            The next samples of the far-end's stream, (n,), zeros where nothing was played. n is
            160, but for what brings it in step with the microphone. None for 160 zeros.
        """
        count = self._count.next(drift_ppm)
        skipped = self._mic.observe(position, first_sample_ns)
        if skipped is None:
            self._offset = None
        elif self._offset is not None:
            self._offset += count - BLOCK_SAMPLES
            self._given += skipped
        if self._offset is None:
            if self._far.blocks < _FAR_BLOCKS or self._mic.blocks < _MIC_BLOCKS:
                return _silence(count)
            self._offset = self._measured_offset()
            self._given = position + self._offset
            self.anchors += 1
            before = self._between(self._given - _BEFORE_SAMPLES, self._given)
            self.before = np.zeros(_BEFORE_SAMPLES, np.float32) if before is None else before
        self._wanted = position + self._offset
        first, end = self._given, max(self._given, self._wanted + BLOCK_SAMPLES)
        self._given = end
        return self._between(first, end)

    def _between(self, first: int, end: int) -> Samples | None:
        """What was played from one position to another."""
        blocks = self._blocks
        while blocks and blocks[0].position + BLOCK_SAMPLES <= first:
            blocks.popleft()
        if not blocks or blocks[0].position >= end:
            return _silence(end - first)
        far = np.zeros(end - first, np.float32)
        for block in blocks:
            at = block.position - first
            if at >= len(far):
                break
            if at >= 0:
                far[at : at + BLOCK_SAMPLES] = block.samples[: len(far) - at]
            else:
                far[: BLOCK_SAMPLES + at] = block.samples[-at : len(far) - at]
        return far

    def _measured_offset(self) -> int:
        apart_ns = self._mic.ns - self._far.ns
        return round(apart_ns / NS_PER_SAMPLE) + self._lead


def _silence(samples: int) -> Samples | None:
    return None if samples == BLOCK_SAMPLES else np.zeros(samples, np.float32)

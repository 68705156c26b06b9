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
_STALE_MS = 100
_FAR_BLOCKS, _MIC_BLOCKS = 5, 8
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

    def observe(self, position: int, at_ns: int) -> bool:
        """Take a block's position and time; False if the stream was interrupted before it."""
        origin_ns = at_ns - position * NS_PER_SAMPLE
        skipped_ns = max(0, position - self._next) * NS_PER_SAMPLE
        step_ns = abs(origin_ns - self._newest_ns)
        goes_on = position >= self._next and step_ns < _STEP_NS + _DRIFT * skipped_ns
        if self._observed_ns and (skipped_ns or not goes_on):
            self._observed_ns.clear()
        self._observed_ns.append(origin_ns)
        self._next, self._newest_ns = position + BLOCK_SAMPLES, origin_ns
        return goes_on

    @property
    def blocks(self) -> int:
        """Observations without a gap between them, a few dozen at most."""
        return len(self._observed_ns)

    @property
    def ns(self) -> float:
        """The best guess at present."""
        return median(self._observed_ns)


class FarEndTimeline:
    """Gives for each microphone block the far-end block that was played at the same time.

    Both devices count their samples; how far the counts are apart is taken from the time-stamps
    once, so that the far-end comes out without a seam. It is taken anew when one of the streams was
    interrupted, and after a silence when the clocks have drifted far apart meanwhile. A drift in
    between is left to whoever aligns the reference.

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
        self._offset: int | None = None
        """What a microphone position lacks to be the far-end position of the same time."""
        self._far, self._mic = _Origin(), _Origin()
        self._epoch = -1
        self._blocks: deque[Block] = deque()
        self._wanted = 0
        self._late_run = 0

    def push(self, block: Block) -> None:
        """Take a block of the speaker ring, in order."""
        goes_on = self._far.observe(block.position, block.captured_ns)
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
            self._lead = max(lead, -_LONGEST_LAG_MS * RATE_HZ // 1000)
            self._offset = None
            return
        if self._far.blocks == _FAR_BLOCKS and self._mic.blocks >= _MIC_BLOCKS:
            stale = abs(self._measured_offset() - self._offset)
            if stale > _STALE_MS * RATE_HZ // 1000:
                self._offset = None

    def restart_microphone(self) -> None:
        """The microphone's stream was interrupted: its positions tell nothing about the past."""
        self._mic = _Origin()
        self._offset = None

    def take(self, position: int, first_sample_ns: int) -> Samples | None:
        """The far-end for a microphone block.

        Args:
            position: of the block's first sample in the microphone's stream, at 16 kHz.
            first_sample_ns: when that was.

        Returns:
            Shape (160,), zeros where nothing was played; None when nothing was played at all.
        """
        if not self._mic.observe(position, first_sample_ns):
            self._offset = None
        if self._offset is not None:
            self._wanted = position + self._offset
        blocks = self._blocks
        if not blocks:
            return None
        if self._offset is None:
            if self._far.blocks < _FAR_BLOCKS or self._mic.blocks < _MIC_BLOCKS:
                return None
            self._offset = self._measured_offset()
            self._wanted = position + self._offset
            self.anchors += 1
        first = self._wanted
        while blocks and blocks[0].position + BLOCK_SAMPLES <= first:
            blocks.popleft()
        if not blocks or blocks[0].position >= first + BLOCK_SAMPLES:
            return None
        far = np.zeros(BLOCK_SAMPLES, np.float32)
        for block in blocks:
            at = block.position - first
            if at >= BLOCK_SAMPLES:
                break
            if at >= 0:
                far[at:] = block.samples[: BLOCK_SAMPLES - at]
            else:
                far[:at] = block.samples[-at:]
        return far

    def _measured_offset(self) -> int:
        apart_ns = self._mic.ns - self._far.ns
        return round(apart_ns / NS_PER_SAMPLE) + self._lead

"""The stream's own count of blocks, and what the ring calls them. Pure.

The detector counts samples of one endless stream. This keeps the map between that count and the
ring's names (epoch, sequence) and times, across restarts of capture and lost blocks, and what is
known of each block.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES
from appliance.ipc.audio_ring import Block
from appliance.messages import Span
from appliance.vad.direction import direction_of_speech
from appliance.vad.edges import SEARCH_BLOCKS, refine_end

_NS_PER_SAMPLE = BLOCK_NS // BLOCK_SAMPLES
_SILENT_DB = -120.0


@dataclass
class _Life:
    """One epoch of the ring on the stream's sample count."""

    epoch: int
    first_block: int
    """Block count of the stream at which ``first_sequence`` lies."""
    first_sequence: int
    last_sequence: int

    @property
    def last_block(self) -> int:
        return self.first_block + self.last_sequence - self.first_sequence


class Timeline:
    """Remembers the last minute of a stream's blocks: names, times, levels, directions."""

    KEPT_LIVES = 2
    KEPT_BLOCKS = 6_000

    def __init__(self) -> None:
        self._lives: deque[_Life] = deque(maxlen=self.KEPT_LIVES)
        self._captured_ns: dict[int, int] = {}
        self._levels_db: dict[int, float] = {}
        self._directions_deg: dict[int, float] = {}

    def add(self, block: Block, level_db: float, direction_deg: float | None) -> int:
        """Take the next block; give its number in the stream: a loss or a restart skips numbers.

        Args:
            block: later than all before it.
            level_db: its level.
            direction_deg: where it came from, if known.
        """
        number = self._place(block)
        self._captured_ns[number] = block.captured_ns
        self._levels_db[number] = level_db
        if direction_deg is not None:
            self._directions_deg[number] = direction_deg
        for known in (self._captured_ns, self._levels_db, self._directions_deg):
            known.pop(number - self.KEPT_BLOCKS, None)
        return number

    def _place(self, block: Block) -> int:
        life = self._lives[-1] if self._lives else None
        if life is None or life.epoch != block.epoch:
            number = 0
            if life is not None:
                gap_ns = block.captured_ns - self._captured_ns[life.last_block]
                number = life.last_block + max(1, round(gap_ns / BLOCK_NS))
            life = _Life(block.epoch, number, block.sequence, block.sequence)
            self._lives.append(life)
        life.last_sequence = block.sequence
        return life.last_block

    def time_ns(self, position: int) -> int:
        """When the sample at a position was captured; the nearest known block counts."""
        number = position // BLOCK_SAMPLES
        for near in range(number, number - 5, -1):
            if (captured_ns := self._captured_ns.get(near)) is not None:
                return captured_ns + (position - near * BLOCK_SAMPLES) * _NS_PER_SAMPLE
        newest = max(self._captured_ns)
        return self._captured_ns[newest] + (position - newest * BLOCK_SAMPLES) * _NS_PER_SAMPLE

    def spans(self, start: int, end: int) -> tuple[Span, ...]:
        """The ring's names for the samples from ``start`` to ``end`` (excluded)."""
        first, last = start // BLOCK_SAMPLES, (end - 1) // BLOCK_SAMPLES
        spans = []
        for life in self._lives:
            begin, stop = max(first, life.first_block), min(last, life.last_block)
            if begin <= stop:
                offset = life.first_sequence - life.first_block
                spans.append(Span(life.epoch, begin + offset, stop + offset))
        return tuple(spans)

    def utterance_id(self, start: int) -> str:
        """The same for everybody who finds this stretch: named after its first block."""
        span = self.spans(start, start + 1)
        return f"{span[0].epoch:x}-{span[0].first:x}" if span else f"lost-{start}"

    def speech_end_ns(self, start: int, end: int) -> int:
        """When the last bit of speech was captured, looked for around the detector's opinion."""
        first, hint = start // BLOCK_SAMPLES, end // BLOCK_SAMPLES
        newest = max(self._levels_db)
        levels = [
            self._levels_db.get(number, _SILENT_DB)
            for number in range(first, min(newest, hint + SEARCH_BLOCKS) + 1)
        ]
        refined = first + refine_end(np.array(levels), hint - first)
        return self.time_ns(refined * BLOCK_SAMPLES)

    def direction_deg(self, start: int, end: int) -> float | None:
        """Where the speech between two positions came from, if anybody has said."""
        numbers = range(start // BLOCK_SAMPLES, end // BLOCK_SAMPLES)
        return direction_of_speech(
            [self._directions_deg.get(number) for number in numbers],
            [self._levels_db.get(number, _SILENT_DB) for number in numbers],
        )

"""From ring blocks to speech messages: what the vad process does, without process or ring.

The detector counts samples of one endless stream. This module keeps the map between that count
and the ring's names (epoch, sequence), across restarts of capture and lost blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES
from appliance.ipc.audio_ring import Block
from appliance.messages import (
    Message,
    Span,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
)
from appliance.vad import detector as detection
from appliance.vad.detector import SpeechDetector
from appliance.vad.direction import direction_of_speech
from appliance.vad.edges import SEARCH_BLOCKS, refine_end
from appliance.vad.engine import FRAME_SAMPLES, VoiceDetector

ANNOUNCED_BLOCKS = 2
"""So many of the newest blocks an announcement's direction is about."""
_NS_PER_SAMPLE = BLOCK_NS // BLOCK_SAMPLES


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


class SpeechStream:
    """One session's stream: feed it blocks in order, publish what it returns."""

    KEPT_LIVES = 2
    KEPT_BLOCKS = 6_000

    def __init__(
        self,
        session_id: str,
        detector: SpeechDetector,
        voice: VoiceDetector,
    ) -> None:
        self._session_id = session_id
        self._detector = detector
        self._voice = voice
        self._lives: deque[_Life] = deque(maxlen=self.KEPT_LIVES)
        self._captured_ns: dict[int, int] = {}
        """Capture time by block count of the stream."""
        self._levels_db: dict[int, float] = {}
        """Level by block count of the stream."""
        self._directions_deg: dict[int, float] = {}
        """Direction by block count of the stream, where it is known."""
        self._belief = 0.0
        """Integral of the near-end belief over the samples of the frame so far."""
        self._frame = np.zeros(FRAME_SAMPLES, np.float32)
        self._filled = 0
        self._frame_begin = 0

    def step(
        self,
        blocks: Sequence[Block],
        *,
        direction_deg: float | None = None,
    ) -> list[Message]:
        """Take new blocks, in order; blocks that are missing between them count as silence.

        Args:
            blocks: as the ring's reader gives them.
            direction_deg: where the newest of them came from, as announced.
        """
        messages: list[Message] = []
        first_announced = len(blocks) - ANNOUNCED_BLOCKS
        for index, block in enumerate(blocks):
            number = self._place(block)
            if index >= first_announced and direction_deg is not None:
                self._directions_deg[number] = direction_deg
            self._captured_ns[number] = block.captured_ns
            self._levels_db[number] = detection.frame_level_db(block.samples)
            self._captured_ns.pop(number - self.KEPT_BLOCKS, None)
            self._levels_db.pop(number - self.KEPT_BLOCKS, None)
            self._directions_deg.pop(number - self.KEPT_BLOCKS, None)
            self._take(number * BLOCK_SAMPLES, block, messages)
        return messages

    def _place(self, block: Block) -> int:
        """The block's number in the stream; begins a new life or skips over a loss if need be."""
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

    def _take(self, position: int, block: Block, out: list[Message]) -> None:
        samples = block.samples
        if self._filled and position != self._frame_begin + self._filled:
            self._filled = 0  # what a loss cut off cannot be judged
        taken = 0
        while taken < len(samples):
            if self._filled == 0:
                self._frame_begin = position + taken
                self._belief = 0.0
            n = min(FRAME_SAMPLES - self._filled, len(samples) - taken)
            self._frame[self._filled : self._filled + n] = samples[taken : taken + n]
            self._filled += n
            self._belief += n * block.near_end
            taken += n
            if self._filled == FRAME_SAMPLES:
                self._filled = 0
                # what an echo canceller leaves still sounds like speech, but nobody speaks
                probability = self._voice.probability(self._frame) * self._belief / FRAME_SAMPLES
                level_db = detection.frame_level_db(self._frame)
                events = self._detector.step(self._frame_begin, probability, level_db)
                out.extend(self._message(event) for event in events)

    def _message(self, event: detection.SpeechEvent) -> Message:
        session_id, start_ns = self._session_id, self._time_ns(event.start)
        utterance_id = self._utterance_id(event.start)
        match event:
            case detection.SpeechStarted():
                return SpeechStarted(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=self._spans(event.start, event.decided_at),
                    speech_start_ns=start_ns,
                    direction_deg=self._direction_deg(event.start, event.decided_at),
                )
            case detection.SpeechPaused():
                return SpeechPaused(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=self._spans(event.start, event.audio_end),
                    speech_start_ns=start_ns,
                    direction_deg=self._direction_deg(event.start, event.end),
                    speech_end_ns=self._speech_end_ns(event.start, event.end),
                )
            case detection.SpeechResumed():
                return SpeechResumed(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=self._spans(event.start, event.decided_at),
                    speech_start_ns=start_ns,
                    direction_deg=self._direction_deg(event.start, event.decided_at),
                )
            case detection.SpeechEnded():
                return SpeechEnded(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=self._spans(event.start, event.audio_end),
                    speech_start_ns=start_ns,
                    direction_deg=self._direction_deg(event.start, event.end),
                    speech_end_ns=self._speech_end_ns(event.start, event.end),
                    decided_ns=self._time_ns(event.decided_at),
                    more_follows=event.reason == "split",
                )

    def _speech_end_ns(self, start: int, end: int) -> int:
        """When the last bit of speech was captured, looked for around the detector's opinion."""
        first, hint = start // BLOCK_SAMPLES, end // BLOCK_SAMPLES
        newest = max(self._levels_db)
        levels = [
            self._levels_db.get(number, -120.0)
            for number in range(first, min(newest, hint + SEARCH_BLOCKS) + 1)
        ]
        refined = first + refine_end(np.array(levels), hint - first)
        return self._time_ns(refined * BLOCK_SAMPLES)

    def _direction_deg(self, start: int, end: int) -> float | None:
        """Where the speech between two positions came from, if anybody has said."""
        numbers = range(start // BLOCK_SAMPLES, end // BLOCK_SAMPLES)
        return direction_of_speech(
            [self._directions_deg.get(number) for number in numbers],
            [self._levels_db.get(number, -120.0) for number in numbers],
        )

    def _utterance_id(self, start: int) -> str:
        """The same for everybody who finds this stretch: named after its first block."""
        span = self._spans(start, start + 1)
        return f"{span[0].epoch:x}-{span[0].first:x}" if span else f"lost-{start}"

    def _time_ns(self, position: int) -> int:
        """When the sample at a position was captured; the nearest known block counts."""
        number = position // BLOCK_SAMPLES
        for near in range(number, number - 5, -1):
            if (captured_ns := self._captured_ns.get(near)) is not None:
                return captured_ns + (position - near * BLOCK_SAMPLES) * _NS_PER_SAMPLE
        newest = max(self._captured_ns)
        return self._captured_ns[newest] + (position - newest * BLOCK_SAMPLES) * _NS_PER_SAMPLE

    def _spans(self, start: int, end: int) -> tuple[Span, ...]:
        """The ring's names for the samples from ``start`` to ``end`` (excluded)."""
        first, last = start // BLOCK_SAMPLES, (end - 1) // BLOCK_SAMPLES
        spans = []
        for life in self._lives:
            begin, stop = max(first, life.first_block), min(last, life.last_block)
            if begin <= stop:
                offset = life.first_sequence - life.first_block
                spans.append(Span(life.epoch, begin + offset, stop + offset))
        return tuple(spans)

"""The reflex's signal: perhaps somebody begins to speak, or it was nothing. Pure.

Two kinds of evidence, either suffices. A frame that sounds like speech, the detector's own unit:
certain, but over an answer the network takes half a second for some voices. And while the
loudspeaker plays, a run of blocks in which the front-end hears clearly more than what is left of
the echo: known within some 10 ms, whatever the sound is. A false alarm lowers the answer for a
moment; the verdict is not made here.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ

_SMOOTHING = 0.3
_FLOOR_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class ReflexSettings:
    """What is evidence of a near-end voice, and how long it counts."""

    start_threshold: float = 0.5
    """A frame at or above this probability is evidence..."""
    stop_threshold: float = 0.35
    """...and, once there is some, one at or above this."""
    near_end: float = 0.97
    """Over the far-end a block is evidence when the belief in near-end sound is this high..."""
    above_floor_db: float = 15.0
    """...its level is so far above the noise..."""
    run_blocks: int = 5
    """...and so many such blocks come in a row: a click is shorter."""
    hangover_ms: int = 300
    """Without evidence for so long it was nothing, or it is over."""


class NearEndReflex:
    """Follows one stream; positions are its samples. Feed it every block, and every frame."""

    def __init__(self, settings: ReflexSettings | None = None) -> None:
        self._settings = settings or ReflexSettings()
        self._hangover = self._settings.hangover_ms * RATE_HZ // 1000
        self._floor = _NoiseFloor()
        self._run = 0
        self._last = 0
        self.active = False
        """Whether somebody seems to speak."""
        self.onset = 0
        """First sample of the evidence, of the latest alarm."""

    def take_block(
        self, position: int, level_db: float, near_end: float, *, far_end_active: bool
    ) -> None:
        """Take the block at ``position``: its level and the belief that it holds near-end sound."""
        settings = self._settings
        end = position + BLOCK_SAMPLES
        floor_db = self._floor.step(level_db)
        heard = near_end >= settings.near_end and level_db > floor_db + settings.above_floor_db
        self._run = self._run + 1 if far_end_active and heard else 0
        if self._run >= settings.run_blocks:
            self._alarm(end - self._run * BLOCK_SAMPLES, end)
        elif self.active and end - self._last >= self._hangover:
            self.active = False

    def take_frame(self, begin: int, end: int, probability: float) -> None:
        """Take a frame's probability of near-end speech."""
        settings = self._settings
        if probability >= (settings.stop_threshold if self.active else settings.start_threshold):
            self._alarm(begin, end)

    def _alarm(self, begin: int, end: int) -> None:
        if not self.active:
            self.active, self.onset = True, begin
        self._last = end


class _NoiseFloor:
    """The lowest smoothed level of the last one to two seconds."""

    def __init__(self) -> None:
        self._smooth_db: float | None = None
        self._before_db = self._now_db = float("inf")
        self._blocks = 0

    def step(self, level_db: float) -> float:
        """Take a block's level; give the floor in dB."""
        if self._smooth_db is None:
            self._smooth_db = level_db
        self._smooth_db += _SMOOTHING * (level_db - self._smooth_db)
        self._now_db = min(self._now_db, self._smooth_db)
        floor_db = min(self._before_db, self._now_db)
        self._blocks += 1
        if self._blocks == _FLOOR_BLOCKS:
            self._blocks = 0
            self._before_db, self._now_db = self._now_db, float("inf")
        return floor_db

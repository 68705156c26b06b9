"""Which microphones work: dead, clipped, deaf, noisy, doubled ones are named and left out. Pure."""

from __future__ import annotations

import math
from collections import Counter
from itertools import compress, permutations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_MS, BLOCK_SAMPLES, Samples
from appliance.capture.doa import Doa
from appliance.capture.geometry import Geometry

Bools = NDArray[np.bool_]

_FULL_SCALE = 0.999
_BEYOND = np.float32(8)  # no sound, whatever it is: kept from overflowing
_CLIPPED_SHARE = 0.05
_OFFSET = 0.05
_DEAD_POWER = 1e-12  # -120 dBFS: below the last of 16 bits there is no microphone
_ALIVE_POWER = 1e-9
_APART_DB = 20.0
_JUDGE_EVERY_BLOCKS = 20
_STAYS_OUT_BLOCKS = 100  # 1 s of health before a microphone is trusted again
_ORDER_EVERY_BLOCKS = 500 // BLOCK_MS
_ORDER_JUDGEMENTS = 20
_ORDER_MARGIN = 0.08
_FAULT_AFTER = {"dead": 2, "silent": 3, "loud": 3, "clipped": 2, "offset": 3, "same": 5}
"""Judgements (200 ms each) in a row that make a fault; one that is not a number counts at once."""


class ChannelMonitor:
    """Watches the raw microphones.

    Reasons for leaving one out: "nan" (not a number), "dead" (constant while another hears
    something), "clipped" (over 5 % of samples at full scale, not all microphones alike), "offset"
    (a constant over 5 % of full scale), "silent" and "loud" (20 dB from the median of all), "same"
    (bit for bit an earlier channel: a mono microphone that claims to be stereo). What all of them
    have in common is no fault: then there is nothing better to use. One second of health, and a
    microphone is used again.

    Args:
        channels: microphones.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._heard = np.zeros((channels, _JUDGE_EVERY_BLOCKS, BLOCK_SAMPLES), np.float32)
        """What came since the last judgement."""
        self._in_a_row: list[Counter[str]] = [Counter() for _ in range(channels)]
        self._out_blocks = np.zeros(channels, int)
        self._blocks = 0
        self._counts: Counter[str] = Counter()
        self.reasons: tuple[str, ...] = ("ok",) * channels
        """What is wrong with each microphone, "ok" for nothing."""
        self._usable: Bools = np.ones(channels, bool)

    @property
    def counts(self) -> dict[str, int]:
        """How often a microphone was left out, by reason."""
        return dict(self._counts)

    @property
    def usable(self) -> Bools:
        """(channels,) the microphones to use; all of them when none works."""
        return self._usable

    def process(self, block: Samples) -> Bools:
        """Take a raw block (channels, 160); give the microphones to use (channels,)."""
        if not np.vdot(block, block) <= _BEYOND**2:  # also when it is not a number
            for channel in np.flatnonzero(~np.isfinite(block).all(axis=1)):
                self._fault(int(channel), "nan")
            block = np.clip(np.nan_to_num(block), -_BEYOND, _BEYOND)
        self._heard[:, self._blocks] = block
        self._blocks += 1
        if self._blocks == _JUDGE_EVERY_BLOCKS:
            self._blocks = 0
            self._judge()
        return self._usable

    def _judge(self) -> None:
        """Look for what takes longer than a block to tell."""
        faults = self._faults()
        reasons = list(self.reasons)
        for channel, fault in enumerate(faults):
            row = self._in_a_row[channel]
            count = row[fault] + 1
            row.clear()
            row[fault] = count
            if fault == "ok":
                self._out_blocks[channel] -= _JUDGE_EVERY_BLOCKS
                if self._out_blocks[channel] <= 0:
                    reasons[channel] = "ok"
            elif count >= _FAULT_AFTER[fault]:
                self._out_blocks[channel] = _STAYS_OUT_BLOCKS
                if reasons[channel] != fault:
                    self._counts[fault] += 1
                reasons[channel] = fault
        self._conclude(reasons)

    def _faults(self) -> list[str]:
        """What is wrong in the last 200 ms."""
        faults = ["ok"] * self._channels
        if self._channels == 1:  # there is nothing better to use
            return faults
        means = self._heard.mean(axis=2, keepdims=True)
        powers = np.square(self._heard - means).mean(axis=(1, 2)).tolist()
        offsets = means.mean(axis=(1, 2)).tolist()
        clipped = (np.abs(self._heard) >= _FULL_SCALE).mean(axis=(1, 2)).tolist()
        copies = [samples.tobytes() for samples in self._heard[:, -1]]
        heard = max(powers) > _ALIVE_POWER
        alive = [power > _DEAD_POWER for power in powers]
        levels_db = [10 * math.log10(max(power, 1e-20)) for power in powers]
        median_db = median(compress(levels_db, alive)) if any(alive) else 0.0
        for channel, level_db in enumerate(levels_db):
            if heard and not alive[channel]:
                faults[channel] = "dead"
            elif clipped[channel] > _CLIPPED_SHARE and min(clipped) < _CLIPPED_SHARE / 2:
                faults[channel] = "clipped"
            elif abs(offsets[channel]) > _OFFSET:
                faults[channel] = "offset"
            elif alive[channel] and copies[channel] in compress(copies[:channel], alive):
                faults[channel] = "same"
            elif heard and sum(alive) > 2 and abs(level_db - median_db) > _APART_DB:
                faults[channel] = "silent" if level_db < median_db else "loud"
        if all(fault == "offset" for fault in faults):
            return ["ok"] * self._channels
        return faults

    def _fault(self, channel: int, reason: str) -> None:
        if self.reasons[channel] != reason:
            self._counts[reason] += 1
        reasons = list(self.reasons)
        reasons[channel] = reason
        self._conclude(reasons)
        self._out_blocks[channel] = _STAYS_OUT_BLOCKS

    def _conclude(self, reasons: list[str]) -> None:
        self.reasons = tuple(reasons)
        working = np.array([reason == "ok" for reason in reasons])
        self._usable = working if working.any() else np.ones(self._channels, bool)


class OrderMonitor:
    """Suspects that microphones are wired in another order than the geometry says.

    Over seconds of speech a wrong order makes the phases disagree with every direction. Each order
    is judged by how well its best direction explains them. Orders that only turn or mirror the
    array explain them as well as the right one: those cannot be found this way.

    Args:
        geometry: known; with more than 4 microphones only swaps of two are tried.
    """

    def __init__(self, geometry: Geometry) -> None:
        count = len(geometry.positions_m)
        identity = tuple(range(count))
        if count <= 4:
            orders = list(permutations(identity))
        else:
            orders = [identity]
            for one in range(count):
                for other in range(one):
                    swapped = list(identity)
                    swapped[one], swapped[other] = other, one
                    orders.append(tuple(swapped))
        distances = np.linalg.norm(
            geometry.positions_m[:, None] - geometry.positions_m[None], axis=-1
        )
        different: list[tuple[int, ...]] = []
        seen: list[NDArray[np.float64]] = []
        for order in orders:
            apart = distances[np.ix_(order, order)]
            if not any(np.allclose(apart, known, atol=1e-4) for known in seen):
                different.append(order)
                seen.append(apart)
        self._orders = different
        self._scores = np.zeros(len(different))
        self._judged = 0
        self._blocks = 0

    @property
    def suspicion(self) -> tuple[int, ...] | None:
        """The order that fits better: position k belongs to channel order[k]. None for no doubt."""
        best = int(self._scores.argmax())
        enough = self._judged >= _ORDER_JUDGEMENTS
        if enough and self._scores[best] > self._scores[0] + _ORDER_MARGIN * self._judged:
            return self._orders[best]
        return None

    def process(self, doa: Doa) -> None:
        """Call with every block, after the estimator of directions took it."""
        self._blocks += 1
        if self._blocks % _ORDER_EVERY_BLOCKS:
            return
        scores = [doa.agreement(order) for order in self._orders]
        if None not in scores:
            self._scores += np.array(scores, np.float64)
            self._judged += 1

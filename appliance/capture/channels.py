"""Which microphones work: dead, clipped, deaf, noisy, doubled ones are named and left out. Pure."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_MS, Samples
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
        self._power = np.zeros(channels)
        self._mean = np.zeros(channels)
        self._clipped = np.zeros(channels)
        self._same = np.zeros(channels)
        self._in_a_row: list[Counter[str]] = [Counter() for _ in range(channels)]
        self._out_blocks = np.zeros(channels, int)
        self._blocks = 0
        self._counts: Counter[str] = Counter()
        self.reasons: tuple[str, ...] = ("ok",) * channels
        """What is wrong with each microphone, "ok" for nothing."""

    @property
    def counts(self) -> dict[str, int]:
        """How often a microphone was left out, by reason."""
        return dict(self._counts)

    @property
    def usable(self) -> Bools:
        """(channels,) the microphones to use; all of them when none works."""
        working = np.array([reason == "ok" for reason in self.reasons])
        return working if working.any() else np.ones(self._channels, bool)

    def process(self, block: Samples) -> Bools:
        """Take a raw block (channels, 160); give the microphones to use (channels,)."""
        peak = np.abs(block).max(axis=1)
        finite = np.isfinite(peak)
        if not finite.all():
            for channel in np.flatnonzero(~finite):
                self._fault(int(channel), "nan")
        if not peak.max() <= _BEYOND:
            block = np.clip(np.nan_to_num(block), -_BEYOND, _BEYOND)
        mean = block.mean(axis=1)
        centred = block - mean[:, None]
        self._power += np.einsum("cn,cn->c", centred, centred) / block.shape[1]
        self._mean += mean
        if peak.max() >= _FULL_SCALE:
            self._clipped += (np.abs(block) >= _FULL_SCALE).mean(axis=1)
        self._blocks += 1
        if self._blocks % _JUDGE_EVERY_BLOCKS == 0:
            self._judge(block)
            for total in (self._power, self._mean, self._clipped):
                total[:] = 0
        return self.usable

    def _judge(self, block: Samples) -> None:
        """Look for what takes longer than a block to tell."""
        faults = self._faults(block)
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
        self.reasons = tuple(reasons)

    def _faults(self, block: Samples) -> list[str]:
        """What is wrong in the last 200 ms, of which this is the last block."""
        faults = ["ok"] * self._channels
        power, mean, clipped = (
            total / _JUDGE_EVERY_BLOCKS for total in (self._power, self._mean, self._clipped)
        )
        heard = power.max() > _ALIVE_POWER
        alive = power > _DEAD_POWER
        level = 10 * np.log10(np.maximum(power, 1e-20))
        median = float(np.median(level[alive])) if alive.any() else 0.0
        for channel in range(self._channels):
            others_clip = np.delete(clipped, channel)
            if heard and not alive[channel]:
                faults[channel] = "dead"
            elif clipped[channel] > _CLIPPED_SHARE and (
                others_clip.min(initial=1.0) < _CLIPPED_SHARE / 2
            ):
                faults[channel] = "clipped"
            elif abs(mean[channel]) > _OFFSET:
                faults[channel] = "offset"
            elif alive[channel] and any(
                alive[other] and np.array_equal(block[other], block[channel])
                for other in range(channel)
            ):
                faults[channel] = "same"
            elif heard and alive.sum() > 2 and abs(level[channel] - median) > _APART_DB:
                faults[channel] = "silent" if level[channel] < median else "loud"
        if all(fault == "offset" for fault in faults):
            return ["ok"] * self._channels
        return faults

    def _fault(self, channel: int, reason: str) -> None:
        if self.reasons[channel] != reason:
            self._counts[reason] += 1
        reasons = list(self.reasons)
        reasons[channel] = reason
        self.reasons = tuple(reasons)
        self._out_blocks[channel] = _STAYS_OUT_BLOCKS


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

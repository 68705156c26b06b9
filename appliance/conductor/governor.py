"""Spares a machine that is short of memory or too hot: says when to step down, and back. Pure.

The kernel throttles a hot processor to a fraction of its speed, and ends a process when memory is
out; both are worse than a smaller model. Bounds: a Jetson throttles from 99 °C (its thermal design
guide), most mini-PCs from 95 to 100 °C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HOT_C, COOL_C = 92.0, 80.0
SHORT_MB, ENOUGH_MB = 250.0, 1_500.0
"""Memory that could still be had: below the first a step down, above the second one back up, which
takes another model's size."""
_SETTLE_NS = 30_000_000_000
"""A step takes so long to show."""
_CALM_NS = 120_000_000_000
"""Both must have been well for so long before a step is taken back."""


@dataclass(frozen=True)
class Advice:
    """A step of the ladder, and why."""

    direction: Literal["down", "up"]
    reason: str


class Governor:
    """Looks at the machine from time to time."""

    def __init__(self) -> None:
        self._next_ns = 0
        self._well_since_ns: int | None = None

    def step(self, available_mb: float, hottest_c: float | None, now_ns: int) -> Advice | None:
        """What to do now.

        Args:
            available_mb: memory that can still be had.
            hottest_c: of all sensors; None where the machine has none.
            now_ns: monotonic.
        """
        hot = hottest_c is not None and hottest_c >= HOT_C
        if hot or available_mb < SHORT_MB:
            self._well_since_ns = None
            if now_ns < self._next_ns:
                return None
            self._next_ns = now_ns + _SETTLE_NS
            what = f"{hottest_c:.0f} °C" if hot else f"{available_mb:.0f} MB of memory left"
            return Advice("down", what)
        cool = hottest_c is None or hottest_c <= COOL_C
        if not cool or available_mb < ENOUGH_MB:
            self._well_since_ns = None
            return None
        if self._well_since_ns is None:
            self._well_since_ns = now_ns
        if now_ns - self._well_since_ns < _CALM_NS:
            return None
        self._well_since_ns = now_ns
        return Advice("up", "cool and with memory to spare again")

"""How much silence ends a turn. Pure."""

from __future__ import annotations

MOST_MS = 2_000
"""Bound on any pause within a turn."""
_UNFINISHED_MS = 1_500
_DECAY = 0.8
_MARGIN = 1.2


class Endpointing:
    """Silence needed, by how finished the last words sound and how this speaker pauses.

    Args:
        end_of_turn_ms: silence after what surely sounds finished.
        fallback_ms: silence when nothing is known.
        threshold: probability from which it sounds finished.
    """

    def __init__(self, *, end_of_turn_ms: int, fallback_ms: int, threshold: float) -> None:
        self._end_of_turn_ms = end_of_turn_ms
        self._fallback_ms = fallback_ms
        self._threshold = threshold
        self._own_pause_ms = 0.0

    def silence_needed_ms(self, probability: float) -> int:
        """Silence that ends the turn, from `end_of_turn_ms` to 2 s."""
        if probability >= self._threshold:
            needed = float(self._end_of_turn_ms)
        else:
            unfinished = 1 - probability / self._threshold
            needed = self._fallback_ms + unfinished * (_UNFINISHED_MS - self._fallback_ms)
        return round(min(max(needed, self._own_pause_ms), MOST_MS))

    def spoke_on(self, pause_ms: float) -> None:
        """The speaker went on after such a pause within a turn."""
        self._own_pause_ms = min(MOST_MS, max(self._own_pause_ms, _MARGIN * pause_ms))

    def turn_over(self) -> None:
        """A turn ended: what was learnt fades."""
        self._own_pause_ms *= _DECAY

"""The reflex: playback is lowered while someone seems to speak over it. Pure.

Lowering costs nothing if it was a mistake, so it waits for nobody's judgement. Coming back to the
full level is the conductor's decision; where that never comes, time decides.
"""

from __future__ import annotations

RAMP_DOWN_MS = 15.0
RAMP_UP_MS = 60.0
_QUIET_NS = 400_000_000
"""The near end has been quiet for so long and nobody said anything: it was nothing."""
_BOUND_NS = 3_000_000_000
"""Nobody ever said anything."""
_BELIEVED_NS = 10_000_000_000
"""A near end that never falls silent is no speech: an answer that begins then is not lowered."""


class Duck:
    """Whether playback is to be lowered; see `lowered`. All times are CLOCK_MONOTONIC.

    Args:
        quiet_ns: how long the near end must be quiet, and nobody say anything, to come back.
        bound_ns: the longest it stays lowered.
    """

    def __init__(self, quiet_ns: int = _QUIET_NS, bound_ns: int = _BOUND_NS) -> None:
        self._quiet_ns, self._bound_ns = quiet_ns, bound_ns
        self.lowered = False
        self.onset_ns = 0
        """Of the near-end sound that lowered it."""
        self._near_end = False
        self._near_end_ns = 0
        self._playing = False
        self._until_ns = 0

    @property
    def deadline_ns(self) -> int | None:
        """When `tick` is due."""
        return self._until_ns if self.lowered else None

    def near_end(self, active: bool, onset_ns: int, now_ns: int) -> None:
        """Someone perhaps begins to speak at the microphones, or has stopped."""
        self._near_end = active
        if active:
            self.onset_ns, self._near_end_ns = onset_ns, now_ns
            if self._playing:
                self._lower(now_ns)
        elif self.lowered:
            self._until_ns = min(self._until_ns, now_ns + self._quiet_ns)

    def playing(self, playing: bool, now_ns: int) -> None:
        """Whether something is heard or about to be; may be told as often as convenient."""
        begins = playing and not self._playing
        self._playing = playing
        if begins and self._near_end and now_ns - self._near_end_ns < _BELIEVED_NS:
            self._lower(now_ns)
        elif not playing:
            self.lowered = False

    def restore(self) -> None:
        """It was no interruption, even if it goes on."""
        self.lowered = False

    def tick(self, now_ns: int) -> None:
        """Let time pass."""
        if self.lowered and now_ns >= self._until_ns:
            self.lowered = False

    def _lower(self, now_ns: int) -> None:
        self.lowered = True
        self._until_ns = now_ns + self._bound_ns

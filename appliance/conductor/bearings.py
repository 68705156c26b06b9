"""Who is in the conversation, by bearing: the partner, and what only talks beside it. Pure.

A partner is silent while being answered; a television is not, and talks while others speak. That is
all that tells them apart here, and it takes an exchange to know: until then everybody is listened
to alike. Without directions (one microphone) nobody is ever known.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.vad.direction import apart_deg

SAME_DEG = 25.0
"""So near to each other two bearings are one."""
APART_DEG = 35.0
"""So far apart they are surely two; in between nothing is concluded."""
_PARTNER_NS = 600_000_000_000
"""After ten minutes without an exchange anybody may be sitting there."""
_TALKED_OVER_MS = 1_500
"""So much speech while the partner has the floor: more than a word to somebody else."""
_BACKGROUND_NS = 20_000_000_000
"""Silent for so long, a television is off."""


@dataclass
class _Aside:
    """What talks beside the conversation."""

    direction_deg: float
    voiced_ms: float
    heard_ns: int


class Bearings:
    """Remembers the bearings of a room."""

    def __init__(self) -> None:
        self._partner_deg: float | None = None
        self._partner_ns = 0
        self._next_deg: float | None = None
        """Who had the last exchange, if that was not the partner."""
        self._asides: list[_Aside] = []

    def answered(self, direction_deg: float | None, now_ns: int) -> None:
        """Who speaks from there took a turn, and listened to the answer.

        Once makes a partner where there is none; the place of another one takes two exchanges.
        """
        self._forget(now_ns)
        if direction_deg is None or self._aside_at(direction_deg) is not None:
            return
        known = self.partner_deg(now_ns)
        follows = self._next_deg is not None and _same(direction_deg, self._next_deg)
        if known is None or _same(direction_deg, known) or follows:
            self._partner_deg, self._partner_ns, self._next_deg = direction_deg, now_ns, None
        else:
            self._next_deg = direction_deg

    def aside(self, direction_deg: float, voiced_ms: float, now_ns: int, *, learn: bool) -> None:
        """Somebody talked from there while it was not their turn.

        Args:
            direction_deg: where.
            voiced_ms: for how long.
            now_ns: when.
            learn: false where the bearing is too uncertain to be a new one, as over an answer.
        """
        self._forget(now_ns)
        if self.is_partner(direction_deg, now_ns):
            return
        aside = self._aside_at(direction_deg)
        if aside is not None:
            aside.voiced_ms += voiced_ms
            aside.heard_ns = now_ns
        elif learn:
            self._asides.append(_Aside(direction_deg, voiced_ms, now_ns))

    def _aside_at(self, direction_deg: float) -> _Aside | None:
        near = (a for a in self._asides if apart_deg(a.direction_deg, direction_deg) <= APART_DEG)
        return next(near, None)

    def is_partner(self, direction_deg: float | None, now_ns: int) -> bool:
        """Whether speech from there is the partner's."""
        partner_deg = self.partner_deg(now_ns)
        return (
            direction_deg is not None
            and partner_deg is not None
            and _same(direction_deg, partner_deg)
        )

    def partner_deg(self, now_ns: int) -> float | None:
        """Where the partner is; None while there is none."""
        return self._partner_deg if now_ns - self._partner_ns < _PARTNER_NS else None

    def background_deg(self, now_ns: int) -> tuple[float, ...]:
        """Where something talks that takes no turns."""
        self._forget(now_ns)
        return tuple(a.direction_deg for a in self._asides if a.voiced_ms >= _TALKED_OVER_MS)

    def is_background(self, direction_deg: float, now_ns: int) -> bool:
        """Whether something talks there that takes no turns."""
        return any(_same(direction_deg, deg) for deg in self.background_deg(now_ns))

    def _forget(self, now_ns: int) -> None:
        self._asides = [a for a in self._asides if now_ns - a.heard_ns < _BACKGROUND_NS]


def _same(one_deg: float, other_deg: float) -> bool:
    return apart_deg(one_deg, other_deg) <= SAME_DEG

"""Which utterance's synthesis goes on next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_URGENT_MS = 500.0
"""An utterance that is heard and has less than this ahead comes before everything."""


@dataclass(frozen=True)
class Want:
    """An utterance that has text left to synthesise."""

    utterance_id: str
    held: bool
    begun: bool
    """Whether any of its audio is there already."""
    ahead_ms: float
    """Audio that waits to be played."""


def most_urgent(wants: Iterable[Want], ahead_ms: float) -> str | None:
    """Whose turn it is, or None while all that may be heard soon is there.

    First what would fall silent, then what nothing is there of (an answer begins at once, however
    much is left of another one; of those that are held the newest, for it has replaced the rest),
    then whoever has least ahead.

    Args:
        wants: in the order in which they will be heard.
        ahead_ms: nothing is synthesised further ahead of playback than this.
    """
    open_ = [want for want in wants if want.ahead_ms < ahead_ms]
    speaking = [want for want in open_ if want.begun and not want.held]
    urgent = [want for want in speaking if want.ahead_ms < _URGENT_MS]
    new = [want for want in open_ if not want.begun]
    choices = (
        sorted(urgent, key=lambda want: want.ahead_ms),
        [want for want in new if not want.held],
        [want for want in reversed(new) if want.held],
        sorted(speaking, key=lambda want: want.ahead_ms),
        [want for want in reversed(open_) if want.held],
    )
    return next((choice[0].utterance_id for choice in choices if choice), None)

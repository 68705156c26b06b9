"""Which utterance's synthesis goes on next, of all sessions. Pure.

Earliest deadline first: whoever's listener would hear silence soonest. So none of several sessions
starves another, and where there is too little time for all of them each gets some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.tts.utterance import Utterance

_URGENT_MS = 500.0
"""An utterance that is heard and has less than this ahead comes before everything that is held.
One that has not begun is as urgent, and becomes more so while its listener waits."""


@dataclass(frozen=True)
class Want:
    """An utterance that has text left to synthesise."""

    utterance_id: str
    held: bool
    begun: bool
    """Whether any of its audio is there already."""
    ahead_ms: float
    """Audio of it that waits to be played."""
    before_ms: float = 0.0
    """Audio of its session that is heard before it."""
    waited_ms: float = 0.0
    """How long its listener has waited for it to go on; 0 while something else of its session is
    to be heard first."""

    @property
    def slack_ms(self) -> float:
        """How much later would do."""
        return self.before_ms + (self.ahead_ms if self.begun else _URGENT_MS - self.waited_ms)


def wants(states: Iterable[tuple[Utterance, bool, float]], now_ns: int) -> list[Want]:
    """What the utterances that have text left want.

    Args:
        states: each utterance, whether any of its audio is there already, and how many
            milliseconds of that wait to be played; in the order in which they will be heard.
        now_ns: CLOCK_MONOTONIC.
    """
    wanted = []
    before_ms: dict[str, float] = {}
    for utterance, begun, ahead_ms in states:
        session_id = utterance.session_id
        if utterance.tasks:
            is_next = not utterance.held and session_id not in before_ms
            since_ns = utterance.served_ns or utterance.received_ns
            wanted.append(
                Want(
                    utterance.id,
                    utterance.held,
                    begun,
                    ahead_ms,
                    before_ms=before_ms.get(session_id, 0.0),
                    waited_ms=(now_ns - since_ns) / 1e6 if is_next else 0.0,
                )
            )
        if not utterance.held:
            before_ms[session_id] = before_ms.get(session_id, 0.0) + ahead_ms
    return wanted


def most_urgent(wants: Iterable[Want], ahead_ms: float) -> str | None:
    """Whose turn it is, or None while all that may be heard soon is there.

    First what would fall silent or has not begun, then what is held and has not begun (the newest,
    for it has replaced the rest), then whoever has least ahead.

    Args:
        wants: in the order in which they will be heard.
        ahead_ms: nothing is synthesised further ahead of playback than this.
    """
    open_ = [want for want in wants if want.ahead_ms < ahead_ms]
    wanted = sorted(
        (want for want in open_ if not want.held),
        key=lambda want: (want.slack_ms, -want.waited_ms),
    )
    held = [want for want in reversed(open_) if want.held]
    choices = (
        [want for want in wanted if want.slack_ms <= _URGENT_MS],
        [want for want in held if not want.begun],
        wanted,
        held,
    )
    return next((choice[0].utterance_id for choice in choices if choice), None)

"""How late timers ring, left alone and when mind is killed meanwhile; whether any is lost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from appliance.bench.mind_process import MindProcess
from appliance.errors import ApplianceError
from appliance.messages import ListMind, MindIs

_NAMES = (
    *("apple", "bread", "carrot", "rice", "pasta", "egg", "tea", "pizza", "cake", "soup"),
    *("lamb", "beef", "fish", "bean", "pea", "corn", "ham", "pie", "jam", "yeast"),
)
_FIRST_S = 2
_AFTER_KILL_S = 9
"""Time enough for mind to be back before the first is due."""


def measure(mind: MindProcess, *, quick: bool) -> dict[str, float]:
    """Set timers, hear them ring; again with a kill in between.

    Late is measured from the moment at which the sentence was sent, so it holds the time in which
    the timer was set.
    """
    names = _NAMES[: 6 if quick else None]
    plain = _round(mind, names, _FIRST_S, kill=False)
    killed = _round(mind, names, _AFTER_KILL_S, kill=True)
    return {
        "timers": len(names),
        "timer_late_p50_ms": round(statistics.median(plain), 1),
        "timer_late_max_ms": round(max(plain), 1),
        "timer_late_over_kill_p50_ms": round(statistics.median(killed), 1),
        "timer_late_over_kill_max_ms": round(max(killed), 1),
        "timers_lost": 2 * len(names) - len(plain) - len(killed),
    }


def _round(mind: MindProcess, names: Sequence[str], first_s: int, *, kill: bool) -> list[float]:
    mind.say("Cancel all timers")
    due_ns: dict[str, int] = {}
    for number, name in enumerate(names):
        seconds = first_s + number % 4
        due_ns[name] = time.monotonic_ns() + seconds * 10**9
        mind.say(f"Set a {name} timer for {seconds} seconds")
    if kill:
        mind.kill()
        mind.start()
    listed = mind.request(ListMind(), MindIs)
    by_id = {timer.id: timer.name for timer in listed.timers}
    late_ms: dict[str, float] = {}
    until = time.monotonic() + first_s + 10
    while len(late_ms) < len(names) and time.monotonic() < until:
        try:
            at_ns, ringing = mind.hear_any_ringing(first_s + 10)
        except ApplianceError:
            break  # what has not rung by now is lost
        for timer_id in ringing.ids:
            name = by_id.get(timer_id, "")
            if name in due_ns and name not in late_ms:
                late_ms[name] = (at_ns - due_ns[name]) / 1e6
    mind.say("Stop")
    return list(late_ms.values())

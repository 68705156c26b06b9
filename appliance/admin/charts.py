"""Geometry of the panel's drawings; the templates put it into SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.conductor.ledger import SPEECH_STAGES

WIDTH = 1000.0
HEIGHT = 100.0


@dataclass(frozen=True)
class Bar:
    """One part of a turn: where it stands in a drawing that is ``WIDTH`` wide."""

    stage: str
    colour: int
    """Which of the style sheet's colours."""
    ms: float
    start_ms: float
    x: float
    width: float


def waterfall(contributions_ms: Mapping[str, float], longest_ms: float) -> list[Bar]:
    """Consecutive bars; their lengths sum to the voice-to-voice latency.

    Args:
        contributions_ms: of a turn, in order.
        longest_ms: what the whole width stands for.
    """
    bars = []
    reached_ms = 0.0
    scale = WIDTH / max(longest_ms, sum(contributions_ms.values()), 1.0)
    for number, (stage, ms) in enumerate(contributions_ms.items()):
        colour = (
            SPEECH_STAGES.index(stage) if stage in SPEECH_STAGES else number % len(SPEECH_STAGES)
        )
        x, width = round(reached_ms * scale, 2), round(ms * scale, 2)
        bars.append(Bar(stage, colour, ms, round(reached_ms, 1), x, width))
        reached_ms += ms
    return bars


def trend(values_ms: Sequence[float], longest_ms: float) -> str:
    """Points of a polyline over the turns, oldest left; empty for fewer than two."""
    if len(values_ms) < 2:
        return ""
    step = WIDTH / (len(values_ms) - 1)
    scale = HEIGHT / max(longest_ms, *values_ms, 1.0)
    return " ".join(
        f"{index * step:.1f},{HEIGHT - value * scale:.1f}" for index, value in enumerate(values_ms)
    )


@dataclass(frozen=True)
class Score:
    """A probability at a moment of a turn, as a dot in a drawing."""

    kind: str
    at_ms: float
    value: float
    x: float
    y: float


SCORES = ("end_of_turn", "first_token", "wake_word", "understood")
"""Events whose value is a probability."""


def scores(events: Sequence[Mapping[str, Any]]) -> list[Score]:
    """The probabilities among a turn's events, left to right; higher is likelier."""
    found = [e for e in events if e["kind"] in SCORES and e["value"] is not None]
    if not found:
        return []
    first, last = found[0]["at_ms"], found[-1]["at_ms"]
    scale = (WIDTH - 40) / max(last - first, 1.0)
    return [
        Score(
            event["kind"],
            event["at_ms"],
            event["value"],
            round(20 + (event["at_ms"] - first) * scale, 1),
            round(HEIGHT - 10 - event["value"] * (HEIGHT - 20), 1),
        )
        for event in found
    ]

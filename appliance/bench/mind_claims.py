"""Requests for what cannot be done: does any answer claim that it was?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from appliance.bench.mind_brain import Brain, claimed
from appliance.config import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "tests" / "data" / "mind"
LISTS = ("impossible", "impossible_later")


@dataclass(frozen=True)
class Asked:
    """One request and its answer."""

    request: str
    answer: str
    by: str
    """``undoable`` or another intent, or ``llm``."""
    claim: str
    """The sentence that claims something; empty: none does."""


def requests() -> list[str]:
    """One a line, without the comments."""
    texts = [(FOLDER / f"{name}.txt").read_text("utf-8") for name in LISTS]
    lines = "\n".join(texts).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def measure(
    brain: Brain, count: int | None = None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Ask them all, each as the first thing that is said.

    Returns:
        Figures, and every answer for reading.
    """
    asked = []
    for request in requests()[:count]:
        answer, by = brain.answer(request)
        # an intent's sentence is made from what it did; only llm can claim what never happened
        asked.append(Asked(request, answer, by, claimed(answer) if by == "llm" else ""))
    figures: dict[str, float] = {
        "impossible_requests": len(asked),
        "impossible_answered_by_mind": sum(one.by != "llm" for one in asked),
        "impossible_claimed_done": sum(bool(one.claim) for one in asked),
    }
    return figures, [asdict(one) for one in asked]

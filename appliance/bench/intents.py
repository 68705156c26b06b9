"""How well and how fast transcripts are understood without the language model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.errors import ApplianceError
from appliance.mind.understanding import Understanding, Understood

NO_INTENT = "-"


@dataclass(frozen=True)
class Case:
    """One line of a list: what is said, and what should be understood (None: nothing)."""

    text: str
    intent: str | None
    slots: dict[str, str]


@dataclass(frozen=True)
class IntentFigures:
    """Of one list in one language. Shares are 0 to 1; times are of one ``understand()``."""

    commands: int
    correct: int
    """Intent and every slot right."""
    right_intent: int
    questions: int
    """Sentences that belong to the language model."""
    false_matches: int
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    misses: tuple[str, ...]
    """Each wrong sentence with what was wanted and what was understood."""

    @property
    def accuracy(self) -> float:
        """Share of commands with intent and all slots right."""
        return self.correct / max(self.commands, 1)

    @property
    def false_match_rate(self) -> float:
        """Share of questions for the language model that were taken for a command."""
        return self.false_matches / max(self.questions, 1)


def read(path: Path) -> list[Case]:
    """A list: sentence, intent or ``-``, ``slot=value; …``, separated by tabs; ``#`` comments.

    Raises:
        ApplianceError: a line without its columns.
    """
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) not in (2, 3):
            raise ApplianceError(f"{path}:{number}: expected sentence, intent and slots by tabs.")
        pairs = columns[2].split(";") if len(columns) == 3 else []
        slots = dict(pair.strip().split("=", 1) for pair in pairs if pair.strip())
        intent = None if columns[1] == NO_INTENT else columns[1]
        cases.append(Case(columns[0], intent, slots))
    return cases


def evaluate(understanding: Understanding, cases: Iterable[Case]) -> IntentFigures:
    """Runs every case once, cold caches included, and counts."""
    commands = correct = right_intent = questions = false_matches = 0
    latencies_ms: list[float] = []
    misses: list[str] = []
    for case in cases:
        start = time.perf_counter()
        found = understanding.understand(case.text)
        latencies_ms.append((time.perf_counter() - start) * 1e3)
        if case.intent is None:
            questions += 1
            false_matches += found is not None
            right = found is None
        else:
            commands += 1
            same = found is not None and found.intent == case.intent
            right = same and found is not None and _same_slots(found, case.slots)
            right_intent += same
            correct += right
        if not right:
            got = f"{found.intent} {dict(found.slots)}" if found else NO_INTENT
            misses.append(f"{case.text!r}: {case.intent or NO_INTENT} {case.slots or ''} not {got}")
    times = np.array(latencies_ms or [0.0])
    return IntentFigures(
        commands,
        correct,
        right_intent,
        questions,
        false_matches,
        float(np.percentile(times, 50)),
        float(np.percentile(times, 99)),
        float(times.max()),
        tuple(misses),
    )


def _same_slots(found: Understood, wanted: dict[str, str]) -> bool:
    """Numbers by value, the rest by its words; ``expression`` may be written in any way."""
    got = {k: v for k, v in found.slots.items() if k not in ("expression", "check")}
    return set(got) == set(wanted) and all(_same(got[k], wanted[k]) for k in wanted)


def _same(got: object, wanted: str) -> bool:
    if isinstance(got, bool):
        return str(got).lower() == wanted
    if isinstance(got, int | float):
        return abs(got - float(wanted)) < 1e-6
    return str(got) == wanted

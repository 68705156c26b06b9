"""The mind by figures: what it understands, remembers, does and never claims, and how soon.

In parts, so that each can be measured alone: `intents`, `recall`, `timers`, `tools`, `claims`,
`prefix`, `dialogues`, `voice`. All of them run real processes and the real language model.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from appliance import config as configuration
from appliance.bench import (
    mind_claims,
    mind_dialogues,
    mind_recall,
    mind_timers,
    mind_tools,
    mind_voice,
)
from appliance.bench.intents import evaluate, read
from appliance.bench.llm_prefix import first_token_warm_against_cold
from appliance.bench.mind_brain import open_brain
from appliance.bench.mind_process import MindProcess
from appliance.bench.report import machine, report
from appliance.config import PROJECT_ROOT
from appliance.errors import ApplianceError
from appliance.llm.loading import load_engine
from appliance.mind.making import INTENTS, LANGUAGES
from appliance.mind.understanding import load

logger = logging.getLogger(__name__)

PARTS = ("intents", "timers", "recall", "tools", "claims", "prefix", "dialogues", "voice")
LISTS = PROJECT_ROOT / "tests" / "data" / "intents"
_QUESTIONS = 500
Measured = tuple[dict[str, float], Any]


def run(*, parts: Sequence[str] = (), quick: bool = False, llm: str, seed: int) -> dict[str, Any]:
    """Measure these parts, or all, and return the report.

    Raises:
        ApplianceError: there is no such part, or something does not start.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ApplianceError(f"There is no part {unknown[0]!r}; choose {', '.join(PARTS)}.")
    before = machine()
    figures: dict[str, float] = {}
    details: dict[str, Any] = {}
    measures: dict[str, Callable[[], Measured]] = {
        "intents": lambda: _intents(quick=quick),
        "timers": lambda: _timers(quick=quick),
        "recall": lambda: _recall(llm, seed, quick=quick),
        "tools": lambda: _tools(llm),
        "claims": lambda: _claims(llm, quick=quick),
        "prefix": lambda: _prefix(llm),
        "dialogues": lambda: mind_dialogues.measure(llm, quick=quick),
        "voice": lambda: mind_voice.measure(llm, seed, quick=quick),
    }
    for part in PARTS:
        if parts and part not in parts:
            continue
        started = time.monotonic()
        found, details[part] = measures[part]()
        figures |= found
        logger.info("%s: %.0f s", part, time.monotonic() - started)
    options = "".join(f" --only {part}" for part in parts) + (" --quick" if quick else "")
    command = f"appliance bench mind --llm {llm} --seed {seed}{options} --json"
    return {
        **report(figures, command=command, seed=seed, before=before),
        "details": details,
    }


def _intents(*, quick: bool) -> Measured:
    """The lists, and the time from a question's publication to the answer, through the process."""
    figures: dict[str, float] = {}
    misses: dict[str, Any] = {}
    texts: list[str] = []
    for language in LANGUAGES:
        understanding = load(INTENTS, language)
        for name in ("held_back", "actions", "questions"):
            cases = read(LISTS / f"{language}_{name}.tsv")
            found = evaluate(understanding, cases)
            prefix = f"intents_{language}" + ("" if name == "held_back" else f"_{name}")
            if found.commands:
                figures[f"{prefix}_right_share"] = round(found.accuracy, 4)
            figures[f"{prefix}_false_match_share"] = round(found.false_match_rate, 4)
            misses[prefix] = found.misses
            texts += [case.text for case in cases]
    step = max(1, len(texts) // (_QUESTIONS // 5 if quick else _QUESTIONS))
    taken_ms, inside_ms = [], []
    with _alone() as mind:
        for text in texts[::step]:
            start_ns = time.monotonic_ns()
            considered = mind.consider(text)
            taken_ms.append((time.monotonic_ns() - start_ns) / 1e6)
            inside_ms.append((considered.finished_ns - considered.received_ns) / 1e6)
    for name, values in (("reply", taken_ms), ("consider", inside_ms)):
        for percent in (50, 99):
            figures[f"{name}_p{percent}_ms"] = round(float(np.percentile(values, percent)), 2)
    figures["reply_max_ms"] = round(max(taken_ms), 2)
    figures["questions"] = len(taken_ms)
    return figures, misses


def _timers(*, quick: bool) -> Measured:
    with _alone() as mind:
        return mind_timers.measure(mind, quick=quick), None


def _recall(llm: str, seed: int, *, quick: bool) -> Measured:
    with open_brain(llm) as brain:
        return mind_recall.measure(brain, seed, quick=quick)


def _tools(llm: str) -> Measured:
    with open_brain(llm) as brain:
        return mind_tools.measure(brain)


def _claims(llm: str, *, quick: bool) -> Measured:
    with open_brain(llm) as brain:
        return mind_claims.measure(brain, 12 if quick else None)


def _prefix(llm: str) -> Measured:
    engine = load_engine(configuration.load(), llm)
    try:
        found = first_token_warm_against_cold(engine, llm)
    finally:
        engine.close()
    return {f"first_token_{name}": round(value, 3) for name, value in found.items()}, None


@contextmanager
def _alone() -> Iterator[MindProcess]:
    """Mind's process by itself, with nothing kept."""
    with tempfile.TemporaryDirectory(prefix="va-") as folder:
        runtime_dir = Path(folder) / "run"
        runtime_dir.mkdir()
        with MindProcess(runtime_dir, Path(folder) / "mind") as mind:
            mind.start()
            yield mind

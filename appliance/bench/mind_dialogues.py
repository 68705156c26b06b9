"""Scripted conversations with the whole appliance, asked as text; what each answer should be."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import Any

from appliance.bench.rig import private_appliance
from appliance.client import ApplianceClient
from appliance.config import PROJECT_ROOT
from appliance.mind.making import INTENTS, LANGUAGES
from appliance.mind.understanding import load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

logger = logging.getLogger(__name__)

SCRIPTS = PROJECT_ROOT / "tests" / "data" / "mind" / "dialogues.toml"


@dataclass(frozen=True)
class Turn:
    """One exchange and whether it was as expected."""

    dialogue: str
    said: str
    answer: str
    by: str
    met: bool
    expected: str


def measure(llm: str, *, quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Hold every conversation, each with an appliance of its own.

    Raises:
        ApplianceError: an appliance does not start or does not answer.
    """
    dialogues = tomllib.loads(SCRIPTS.read_text("utf-8"))["dialogues"]
    intents = {"cache", "confirm", "recall"}.union(
        *(load(INTENTS, language).intents for language in LANGUAGES)
    )
    turns: list[Turn] = []
    for dialogue in dialogues[: 2 if quick else None]:
        turns += _held(dialogue, intents, llm)
        logger.info("held: %s", dialogue["name"])
    figures: dict[str, float] = {
        "dialogues": len({turn.dialogue for turn in turns}),
        "dialogue_turns": len(turns),
        "dialogue_turns_as_expected_share": round(sum(t.met for t in turns) / len(turns), 3),
    }
    return figures, [asdict(turn) for turn in turns]


def _held(dialogue: Mapping[str, Any], intents: Set[str], llm: str) -> list[Turn]:
    """One conversation, from hello to goodbye."""
    turns = []
    overrides = {"APPLIANCE_LLM__MODEL": llm, "APPLIANCE_CONDUCTOR__OPTIMISE": "false"}
    with private_appliance(overrides) as rig, ApplianceClient(rig.config) as client:
        client.wait_ready(30)
        for wanted in dialogue["turns"]:
            record = client.ask_text(wanted["say"]).record
            by = next((mark for mark in record.marks if mark in intents), "llm")
            met = re.search(wanted["expect"], record.reply, re.IGNORECASE) is not None
            expected = f"{wanted['expect']} by {wanted.get('by', 'anybody')}"
            right = met and wanted.get("by", by) == by
            turns.append(Turn(dialogue["name"], wanted["say"], record.reply, by, right, expected))
    return turns

"""What the mind bench judges by: claims, expectations, facts that were said."""

from __future__ import annotations

import re
import sys

import pytest

from appliance.bench import mind, mind_claims, mind_dialogues, mind_recall
from appliance.bench.mind_brain import claimed
from appliance.errors import ApplianceError
from appliance.mind.making import INTENTS, LANGUAGES
from appliance.mind.understanding import load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.mark.parametrize(
    "answer",
    [
        "Sure, I'll send you a message.",
        "Yes, I would.",
        "The dog is hungry. I have fed it.",
        "Calling your mother.",
        "Your pizza has been ordered.",
        "好的，我马上打开。",
    ],
)
def test_whoever_agrees_claims(answer: str) -> None:
    assert claimed(answer)


@pytest.mark.parametrize(
    "answer",
    ["I can't do that: all I can do is talk.", "You can open the window.", "He wrote it in 1787."],
)
def test_whoever_denies_or_advises_does_not(answer: str) -> None:
    assert claimed(answer) == ""


def test_a_fact_is_said_by_a_word_that_was_not_in_the_question() -> None:
    fact, question = "my sister lives in Rome", "where does my sister live?"
    assert mind_recall._says("She is in Rome.", fact, question)
    assert not mind_recall._says("I don't know where your sister is.", fact, question)


def test_the_lists_are_there() -> None:
    assert len(mind_claims.requests()) == 90
    assert len(mind_recall.pairs("en")) >= 100
    assert len(mind_recall.pairs("zh")) >= 40


def test_every_expectation_can_be_met() -> None:
    known = {"llm", "cache", "confirm", "recall"}.union(
        *(load(INTENTS, language).intents for language in LANGUAGES)
    )
    dialogues = tomllib.loads(mind_dialogues.SCRIPTS.read_text("utf-8"))["dialogues"]
    assert len(dialogues) >= 8
    for dialogue in dialogues:
        assert 5 <= len(dialogue["turns"]) <= 10
        for turn in dialogue["turns"]:
            re.compile(turn["expect"])
            assert turn.get("by", "llm") in known, turn


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ApplianceError, match="no part 'nothing'"):
        mind.run(parts=["nothing"], llm="x", seed=1)

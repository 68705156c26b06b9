"""The sentences that are compared: few of them, and the right one among them."""

from collections.abc import Sequence

import pytest

from appliance.mind.understanding import matching

SENTENCES = ["set timer {duration}", "cancel timer", "what is time", "turn volume up"]
LIGHT = {"is", "there"}


def weight(word: str) -> float:
    return matching.LIGHT_COST if word in LIGHT else 1.0


@pytest.fixture(scope="module")
def templates() -> matching.Templates:
    return matching.Templates(SENTENCES, weight)


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        (["cancel", "timer"], "cancel timer"),
        (["cancel", "timr"], "cancel timer"),
        (["set", "ti", "mer", "{duration}"], "set timer {duration}"),
        (["turn", "the", "volume", "up"], "turn volume up"),
        (["cancel", "is", "timer"], "cancel timer"),
    ],
)
def test_the_meant_sentence_is_among_those_that_are_compared(
    templates: matching.Templates, heard: Sequence[str], meant: str
) -> None:
    found = templates.nearest(heard)
    assert found is not None
    assert found[0] == meant


def test_a_sentence_with_other_slots_is_never_meant(templates: matching.Templates) -> None:
    assert templates.nearest(["set", "timer", "{moment}"]) is None


def test_sentences_that_share_no_word_that_matters_are_not_compared(
    templates: matching.Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Sequence[str]] = []

    def note(_heard: Sequence[str], template: Sequence[str], _weight: matching.Weight) -> float:
        compared.append(template)
        return 1.0

    monkeypatch.setattr(matching, "likeness", note)
    monkeypatch.setattr(matching, "NEAR", 0.0)
    templates.nearest(["cancel", "timer"])
    assert compared == [["cancel", "timer"]]

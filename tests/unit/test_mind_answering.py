"""What kind of answer a question wants, and which facts are of it."""

from __future__ import annotations

import math

import pytest

from appliance.mind.answering import asks_for_own, fits, needed


@pytest.mark.parametrize(
    ("question", "fact", "can_answer"),
    [
        ("Where is my kite?", "my kite is torn", False),
        ("Where is my kite?", "my kite hangs behind the door", True),
        ("Where is my kite?", "I fly my kite on Sunday", False),
        ("When is the concert?", "the concert is in Bath", False),
        ("When is the concert?", "the concert is on the second of May", True),
        ("How old is my aunt?", "my aunt lives in Bath", False),
        ("How old is my aunt?", "my aunt is sixty", True),
        ("What is my aunt like?", "my aunt lives in Bath", True),
        ("我的钥匙在哪里？", "我的钥匙丢了", False),
        ("我的钥匙在哪里？", "我的钥匙在抽屉里", True),
        ("我姑姑多大了？", "我姑姑五月份来", False),
        ("我姑姑多大了？", "我姑姑六十岁", True),
    ],
)
def test_a_fact_must_be_of_the_kind_that_is_asked_for(
    question: str, fact: str, can_answer: bool
) -> None:
    assert fits(question, fact) is can_answer


@pytest.mark.parametrize(
    "question",
    ["Write a poem about my kite", "What should I wear?", "Why do kites fly?", "我应该怎么办？"],
)
def test_advice_and_explanations_are_for_the_model(question: str) -> None:
    assert needed(question) == math.inf


def test_what_is_ones_own_needs_fewer_words_than_what_is_anyones() -> None:
    assert needed("Where is my kite?") < needed("Where is the kite?") < needed("Where are kites?")
    assert needed("I need my kite, where is it?") == needed("Where is my kite?")


def test_whose_thing_is_asked_for() -> None:
    assert asks_for_own("Do you remember where my kite is?") == "kite"
    assert asks_for_own("Tell me, what is the colour of my kite?") == "kite"
    assert asks_for_own("What is the best kite?") == ""

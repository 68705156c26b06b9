"""Facts as people speak of them: kept, told and forgotten in other words than "remember that"."""

from __future__ import annotations

from pathlib import Path

import pytest
from mind_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("told", "asked", "answer"),
    [
        ("Remember Anna's number is 555 1234", "What's Anna's number?", "555 1234"),
        ("Please remember: the wifi password is hunter two", "What's the wifi password?", "hunter"),
        ("Remember Paul has two kids", "How many kids does Paul have?", "two"),
        ("Remember the spare key is under the mat", "Where is the spare key?", "mat"),
        (
            "Remember that Anna is allergic to nuts",
            "What did I ask you to remember about Anna?",
            "nuts",
        ),
        ("记得安娜对花生过敏", "我让你记住安娜什么了", "花生"),
        ("记得安娜对花生过敏", "关于安娜你知道什么", "花生"),
    ],
)
def test_what_is_stated_is_kept_and_told(world: World, told: str, asked: str, answer: str) -> None:
    assert world.consider(told).intent == "remember"
    world.say(told)
    assert answer in world.say(asked)


@pytest.mark.parametrize(
    "text",
    [
        "Remember the Alamo",
        "Remember when we met",
        "Remember to call Anna",
        "Remember you are a robot",
        "Do you remember who is president?",
        "Remember the time when dinosaurs were alive?",
    ],
)
def test_what_states_nothing_is_not_kept(world: World, text: str) -> None:
    assert world.consider(text).intent != "remember"


@pytest.mark.parametrize(
    "text", ["Forget where I parked", "Forget everything about where I parked"]
)
def test_a_fact_is_forgotten_by_what_it_is_about(world: World, text: str) -> None:
    world.say("Remember that I parked on level three")
    world.say("Remember that Anna is allergic to nuts")
    world.say(text)
    assert world.things.memory is not None
    (fact,) = world.things.memory.about(world.things.who)
    assert "Anna" in fact.text

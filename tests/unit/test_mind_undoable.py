"""What cannot be done is said, and not left to a model that might claim to have done it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from mind_world import World, offered

from appliance.bench.intents import evaluate, read
from appliance.config import PROJECT_ROOT
from appliance.mind.making import INTENTS
from appliance.mind.skills import rings
from appliance.mind.timer_items import Due
from appliance.mind.understanding import load

LISTS = PROJECT_ROOT / "tests" / "data" / "intents"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("language", "least", "most_false"), [("en", 0.95, 0.01), ("zh", 0.9, 0.01)]
)
def test_requests_and_what_only_looks_like_them(
    language: str, least: float, most_false: float
) -> None:
    figures = evaluate(load(INTENTS, language), read(LISTS / f"{language}_actions.tsv"))
    assert figures.accuracy >= least, figures.misses
    assert figures.false_match_rate <= most_false, figures.misses


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Turn on the lights", "devices"),
        ("Call my mother", "calls"),
        ("Play some music", "music"),
        ("Order a pizza", "order"),
        ("What's on my calendar tomorrow?", "calendar"),
        ("Open the window", "can't"),
        ("打开客厅的灯", "设备"),
    ],
)
def test_it_says_that_it_cannot(world: World, text: str, word: str) -> None:
    considered = world.consider(text)
    assert considered.intent == "undoable"
    assert not considered.acts
    assert word in considered.reply


def test_a_tool_for_it_is_not_kept_from_llm(world: World) -> None:
    assert world.consider("Turn on the lamp in the kitchen").intent == "undoable"
    offered(world, [])
    considered = world.consider("Turn on the lamp in the kitchen")
    assert (considered.intent, considered.grammar) == ("", "1 tools")
    assert world.consider("Turn on the radio").intent == "undoable"


def test_a_fact_that_answers_goes_before(world: World) -> None:
    assert world.consider("Where is my phone?").intent == "undoable"
    world.say("Remember that my phone is in the red bag")
    assert world.say("Where is my phone?") == "Your phone is in the red bag."


def test_a_reminder_says_what_to_do(world: World) -> None:
    reply = world.say("Remind me to call my mother in ten minutes")
    assert reply == "The reminder to call your mother is set for 10 minutes."
    (timer,) = world.things.timers.list()
    assert (timer.name, timer.reminder) == ("call my mother", True)
    now = dt.datetime(2026, 11, 23, 9, tzinfo=dt.timezone.utc)
    assert rings([Due(timer, 0.0)], now, "en") == "It's time to call your mother."
    assert "to call your mother: " in world.say("What reminders do I have?")
    assert world.say("Cancel the reminder").startswith("Cancelled: The reminder to call")
    assert world.things.timers.list() == ()


def test_a_reminder_without_a_time_asks_for_it(world: World) -> None:
    assert world.say("Remind me to take out the bins tomorrow") == "At what time?"
    assert "tomorrow" in world.say("at nine in the morning")
    (alarm,) = world.things.timers.list()
    assert (alarm.name, alarm.reminder) == ("take out the bins", True)
    assert world.say("Remind me to call Bob") == "At what time?"
    assert world.say("in an hour") == "The reminder to call Bob is set for 1 hour."


def test_cancelling_reminders_leaves_timers(world: World) -> None:
    world.say("Set a tea timer for ten minutes")
    world.say("Remind me to call Bob in ten minutes")
    world.say("Cancel all reminders")
    (left,) = world.things.timers.list()
    assert left.name == "tea"


def test_a_named_timer_that_was_asked_for_keeps_its_name(world: World) -> None:
    world.say("Set a timer")
    assert world.say("five minutes") == "The timer is set for 5 minutes."


def test_a_shopping_list_is_notes(world: World) -> None:
    assert world.say("What's on my shopping list?") == "There is nothing on that list."
    assert world.say("Add milk to my shopping list") == "I noted: Shopping list: milk"
    world.say("Put eggs on the shopping list")
    world.say("Add call Bob to my to-do list")
    assert world.say("What's on my shopping list?") == "Shopping list: milk; eggs."
    assert world.say("Take milk off my shopping list") == "I deleted the note: Shopping list: milk"
    assert world.say("What's on my shopping list?") == "Shopping list: eggs."


def test_a_chinese_reminder_and_list(world: World) -> None:
    assert "关火的提醒" in world.say("十分钟后提醒我关火")
    (timer,) = world.things.timers.list()
    now = dt.datetime(2026, 11, 23, 9, tzinfo=dt.timezone.utc)
    assert rings([Due(timer, 0.0)], now, "zh") == "该关火了。"
    world.say("把牛奶加到购物清单里")
    assert world.say("购物清单里有什么？") == "购物清单：牛奶。"

"""What is said to an intent, and what the next sentence means after it."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from mind_world import understandings

from appliance.bench.intents import read
from appliance.config import PROJECT_ROOT
from appliance.mind.understanding import Topic, next_time

LISTS = PROJECT_ROOT / "tests" / "data" / "intents"
NOW = datetime(2026, 11, 23, 20, 40, tzinfo=ZoneInfo("Europe/London"))  # a Monday


@pytest.fixture
def english():
    return understandings()["en"]


@pytest.fixture
def chinese():
    return understandings()["zh"]


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("What time is it?", "It's 8:40 PM."),
        ("What time is it in Tokyo?", "In Tokyo it's 5:40 AM."),
        ("What's the date?", "Today is Monday, November 23rd."),
        ("What date is next Friday?", "That will be Friday, December 4th."),
        ("What was the date yesterday?", "Yesterday was Sunday, November 22nd."),
        ("Is it Tuesday today?", "No, today is Monday."),
        ("What's five times six?", "That's 30."),
        ("What is ten divided by zero?", "That has no result that I can say."),
        ("What is 9 to the power of 999?", "That has no result that I can say."),
        ("How many kilometres are five miles?", "5 miles are 8.0467 kilometers."),
        ("How many inches in a foot?", "1 foot is 12 inches."),
        ("What's 72 degrees Fahrenheit in Celsius?", None),
        ("Good night.", "Goodbye!"),
        ("Will it rain tomorrow?", "I can't know the weather: I'm not connected to the internet."),
    ],
)
def test_english_answers(said, reply, english):
    answer = english.answer(english.understand(said), NOW)
    if reply is None:
        assert answer == "72 degrees Fahrenheit are 22.2222 degrees Celsius."
    else:
        assert answer == reply


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("现在几点？", "现在是晚上8点40分。"),
        ("东京现在几点？", "东京现在是早上5点40分。"),
        ("今天星期几？", "今天是11月23日，星期一。"),
        ("五乘以六等于多少？", "等于30。"),
        ("一米等于多少厘米", "1米等于100厘米。"),
        ("明天会下雨吗？", "我没有联网，所以不知道天气。"),
    ],
)
def test_chinese_answers(said, reply, chinese):
    assert chinese.answer(chinese.understand(said), NOW) == reply


def test_every_intent_can_be_answered_or_says_that_it_needs_more(english, chinese):
    for language in (english, chinese):
        answered = set()
        for part in ("dev", "held_back"):
            for case in read(LISTS / f"{language.language}_{part}.tsv"):
                understood = language.understand(case.text)
                if understood and language.answer(understood, NOW):
                    answered.add(understood.intent)
        assert answered == {
            *("time_now", "date", "calculate", "convert", "unknowable", "undoable"),
            *("greet", "thanks", "goodbye"),
        }


@pytest.mark.parametrize(
    ("said", "rings"),
    [
        ("Set an alarm for seven o'clock.", datetime(2026, 11, 24, 7, 0)),
        ("Set an alarm for nine o'clock.", datetime(2026, 11, 23, 21, 0)),
        ("Set an alarm for 7 a.m.", datetime(2026, 11, 24, 7, 0)),
        ("Set an alarm for noon.", datetime(2026, 11, 24, 12, 0)),
        ("Wake me at half past six tomorrow.", datetime(2026, 11, 24, 6, 30)),
        ("Set an alarm for Monday at five in the morning.", datetime(2026, 11, 30, 5, 0)),
        ("Set an alarm for 12 am", datetime(2026, 11, 24, 0, 0)),
    ],
)
def test_when_an_alarm_rings(said, rings, english):
    understood = english.understand(said)
    assert understood.intent == "alarm_set"
    assert next_time(understood.slots, NOW.replace(tzinfo=None)) == rings


@pytest.mark.parametrize(
    ("before", "then", "intent", "slots"),
    [
        ("Set a timer for five minutes.", "and for ten minutes?", "timer_set", {"duration_s": 600}),
        (
            "Set a pasta timer for five minutes.",
            "Make it twenty.",
            "timer_set",
            {"duration_s": 1200, "name": "pasta", "replace": True},
        ),
        ("What's the date today?", "and tomorrow?", "date", {"days": 1}),
        ("What time is it?", "And in Tokyo?", "time_now", {"place": "tokyo"}),
        ("Will it rain today?", "What about tomorrow?", "unknowable", {"kind": "weather"}),
        ("Set a timer.", "Ten minutes.", "timer_set", {"duration_s": 600}),
        ("Set the volume to 30%.", "make it fifty", "volume_set", {"percent": 50}),
    ],
)
def test_follow_ups_of_an_intent(before, then, intent, slots, english):
    topic = Topic().after(before, english.understand(before))
    followed = topic.follow(then, english)
    assert (followed.intent, dict(followed.slots)) == (intent, slots)


def test_a_sum_goes_on(english):
    topic = Topic().after("x", english.understand("What is five times six?"))
    followed = topic.follow("times two", english)
    assert followed.slots["result"] == 60


@pytest.mark.parametrize(
    ("before", "then", "question"),
    [
        ("What is the capital of France?", "And in Italy?", "What is the capital of Italy?"),
        ("What is the capital of France?", "What about Spain?", "What is the capital of Spain?"),
        ("How many people live in Tokyo?", "and New York?", "How many people live in New York?"),
        ("What is the capital of France?", "Why?", None),
        ("What is the capital of France?", "Who was Napoleon?", None),
        ("What is the capital of France?", "and that is good", None),
        ("Why is the sky blue?", "And in Italy?", None),
        ("Did Einstein live in Bern?", "And Newton?", None),
    ],
)
def test_follow_ups_of_a_question(before, then, question, english):
    assert Topic().after(before, None).follow(then, english) == question


def test_chinese_follow_up(chinese):
    topic = Topic().after("法国的首都是哪里？", None)
    assert topic.follow("那意大利呢？", chinese) == "意大利的首都是哪里？"


def test_thanks_do_not_change_the_topic(english):
    topic = Topic().after("What is the capital of France?", None)
    assert topic.after("Thanks.", english.understand("Thanks.")) == topic

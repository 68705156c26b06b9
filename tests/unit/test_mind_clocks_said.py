"""Timers, alarms and reminders as people speak of them: what is done, and what is said of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from mind_world import World

from appliance.mind.timer_items import DAILY, WEEKEND, WORKDAYS, Alarm
from appliance.mind.understanding import next_time, spoken_when


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(world: World) -> list[str]:
    return [item.name for item in world.things.timers.list()]


# --- what repeats ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "days", "time", "name"),
    [
        ("Wake me every weekday at seven", WORKDAYS, (7, 0), ""),
        ("Set an alarm for 6:30 on weekdays", WORKDAYS, (6, 30), ""),
        ("Set an alarm for half past nine every Sunday", (6,), (9, 30), ""),
        ("Wake me up on Mondays and Thursdays at 6 am", (0, 3), (6, 0), ""),
        ("Set an alarm for ten every weekend", WEEKEND, (10, 0), ""),
        ("Remind me to take my pills every day at eight", DAILY, (8, 0), "take my pills"),
        ("Remind me every evening at nine to lock the door", DAILY, (21, 0), "lock the door"),
        ("每天早上七点叫我起床", DAILY, (7, 0), ""),
        ("设一个工作日早上七点的闹钟", WORKDAYS, (7, 0), ""),
        ("每周一和周四早上六点的闹钟", (0, 3), (6, 0), ""),
        ("每天晚上九点提醒我锁门", DAILY, (21, 0), "锁门"),
    ],
)
def test_an_alarm_repeats_on_the_days_that_were_said(
    world: World, text: str, days: tuple[int, ...], time: tuple[int, int], name: str
) -> None:
    reply = world.say(text)
    (alarm,) = world.things.timers.list()
    assert isinstance(alarm, Alarm)
    assert (alarm.days, (alarm.hour, alarm.minute), alarm.name) == (days, time, name)
    assert any(word in reply for word in ("every", "weekdays", "每", "工作日")), "it says so"


@pytest.mark.parametrize(
    "text",
    [
        "Remind me to water the plants every other day at eight",
        "Remind me to stand up every hour",
        "Remind me to pay the rent every month",
    ],
)
def test_a_repetition_that_cannot_be_is_no_single_reminder(world: World, text: str) -> None:
    assert "I can only repeat" in world.say(text)
    assert names(world) == []


def test_what_is_to_be_done_may_speak_of_every_day(world: World) -> None:
    world.say("Remind me to join the daily standup at nine")
    (item,) = world.things.timers.list()
    assert isinstance(item, Alarm)
    assert (item.name, item.days) == ("join the daily standup", ())


def test_the_day_or_the_repetition_is_kept_until_the_time_is_said(world: World) -> None:
    assert world.say("Set an alarm for tomorrow") == "At what time?"
    assert world.say("at seven").endswith("7 AM tomorrow.")
    assert world.say("Remind me to stretch every day") == "At what time?"
    assert world.say("at nine").endswith("9 AM every day.")


def test_when_something_repeated_comes_next() -> None:
    monday = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.timezone.utc)
    slots = {"time": "07:00", "either_half": True, "repeat": WORKDAYS}
    assert next_time(slots, monday) == monday.replace(day=24, hour=7)
    friday = monday.replace(day=27)
    assert next_time(slots, friday) == monday.replace(day=30, hour=7)
    assert spoken_when(friday, monday, "en", (0, 3)) == "8 AM every Monday and Thursday"
    assert spoken_when(friday, monday, "zh") == "星期五 11月27日早上8点"


def test_half_seven_is_half_past(world: World) -> None:
    assert "7:30" in world.say("Set an alarm for half seven")


# --- what is told ---------------------------------------------------------------------------------


def test_only_what_was_asked_for_is_told(world: World) -> None:
    world.say("Set a pasta timer for eight minutes")
    world.say("Set a tea timer for three minutes")
    world.say("Set an alarm for tomorrow at seven")
    world.say("Remind me to call Anna on Friday at nine")
    assert world.say("How much time is left on the pasta timer") == (
        "The pasta timer: 8 minutes left."
    )
    assert "tea" in world.say("How much time is left?")
    told = world.say("What alarms do I have?")
    assert "7 AM tomorrow" in told
    assert "pasta" not in told
    reminders = world.say("What reminders do I have?")
    assert "Anna" in reminders
    assert "alarm" not in reminders
    assert "Anna" not in world.say("What alarms do I have tomorrow?")


def test_what_runs_is_known_by_its_name_alone(world: World) -> None:
    world.say("Set a pasta timer for eight minutes")
    for text in ("How much time is left on the pasta?", "Is the pasta done?"):
        assert world.say(text) == "The pasta timer: 8 minutes left."
    for text in ("How long does pasta take to cook?", "How long until Christmas?", "Is it done?"):
        assert world.consider(text).intent == ""
    world.say("设个十分钟的面条计时器")
    assert world.say("面条还有多久") == "面条计时器还有10分钟。"


# --- what is put right ----------------------------------------------------------------------------


def test_time_is_added_to_what_runs_and_no_other_timer_begins(world: World) -> None:
    world.say("Set a pasta timer for eight minutes")
    assert world.say("Add five minutes to the pasta timer") == (
        "The pasta timer runs for 13 minutes more."
    )
    assert "15 minutes" in world.say("Add two minutes to the timer")
    assert "16 minutes" in world.say("Extend my timer by one minute")
    assert "18分钟" in world.say("给计时器加两分钟")
    assert names(world) == ["pasta"]
    assert world.say("Add five minutes to the egg timer") == "There is no such timer or alarm."
    assert names(world) == ["pasta"]


@pytest.mark.parametrize("text", ["Cancel that", "Never mind", "Undo that", "算了", "取消那个"])
def test_what_was_just_done_is_taken_back(world: World, text: str) -> None:
    world.say("Set a tea timer for one hour")
    world.say("Set a timer for ten minutes")
    assert world.say(text) in ("Okay, I took that back.", "好的，已撤销。")
    assert names(world) == ["tea"]
    assert world.say(text) in ("Okay.", "好的。"), "once"
    assert names(world) == ["tea"]


def test_only_the_last_turn_is_taken_back_and_only_when_asked(world: World) -> None:
    world.say("Set a timer for ten minutes")
    assert world.say("Stop") == "Okay."
    world.say("Set a timer for ten minutes")
    world.say("What time is it?")
    assert world.say("Never mind") == "Okay."
    assert len(names(world)) == 2
    world.say("Remember that Anna is allergic to nuts")
    world.say("Forget that")
    assert world.things.memory is not None
    assert world.things.memory.about(world.things.who) == ()


def test_more_time_is_taken_back_too(world: World) -> None:
    world.say("Set a timer for ten minutes")
    world.say("Add five minutes to the timer")
    world.say("Cancel that")
    (timer,) = world.things.timers.list()
    assert getattr(timer, "duration_ms", 0) == 600_000


# --- which one ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("The tea one", ["", "pasta"]),
        ("pasta, please", ["tea", ""]),
        ("the five minute one", ["tea", "pasta"]),
        ("the second one", ["tea", "pasta"]),
        ("the last one", ["tea", ""]),
        ("all of them", []),
        ("neither", ["tea", "", "pasta"]),
        ("What time is it?", ["tea", "", "pasta"]),
        ("the egg one", ["tea", "", "pasta"]),
        ("the minute one", ["tea", "", "pasta"]),
    ],
)
def test_the_one_that_is_named_after_we_asked(world: World, answer: str, left: list[str]) -> None:
    world.say("Set a tea timer for three minutes")
    world.say("Set a timer for five minutes")
    world.say("Set a pasta timer for eight minutes")
    assert world.say("Cancel the timer").startswith("Which one:")
    world.say(answer)
    assert names(world) == left
    if left:
        world.say("The tea one")
        assert names(world) == left, "we had asked only once"


@pytest.mark.parametrize("answer", ["No", "None of them", "都不要"])
def test_none_of_them_is_an_answer(world: World, answer: str) -> None:
    world.say("Set a tea timer for three minutes")
    world.say("Set a timer for five minutes")
    world.say("Cancel the timer")
    assert world.say(answer) in ("Okay, I won't.", "好的，不做了。")
    assert len(names(world)) == 2


def test_the_one_in_chinese(world: World) -> None:
    world.say("设个五分钟的茶计时器")
    world.say("设个十分钟的面条计时器")
    world.say("取消计时器")
    world.say("面条的")
    assert names(world) == ["茶"]


def test_the_fact_that_is_named_after_we_asked(world: World) -> None:
    world.say("Remember that I have a meeting with Bob on Monday")
    world.say("Remember that I have a meeting with Eve on Tuesday")
    assert world.say("Forget about the meeting").startswith("Which of these:")
    assert "Bob" in world.say("the one with Bob")
    assert world.things.memory is not None
    (fact,) = world.things.memory.about(world.things.who)
    assert "Eve" in fact.text


# --- snooze ---------------------------------------------------------------------------------------


def ring(world: World, seconds: int) -> None:
    """Let a timer ring without waiting for it."""
    item = world.things.timers.set_timer(seconds * 1000, "nap")
    world.things.timers.extend(item.id, 1 - seconds * 1000)
    while not world.things.timers.due():  # a millisecond
        pass


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("Snooze", 9), ("Five more minutes", 5), ("Snooze for ten minutes", 10), ("再睡五分钟", 5)],
)
def test_what_rings_is_put_off(world: World, text: str, minutes: int) -> None:
    assert world.consider(text).intent == "", "nothing rings"
    ring(world, 60)
    world.say(text)
    assert world.things.timers.ringing() == ()
    (item,) = world.things.timers.list()
    assert (item.name, getattr(item, "duration_ms", 0)) == ("nap", minutes * 60_000)

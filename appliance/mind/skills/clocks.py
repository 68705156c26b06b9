"""Timers, alarms and reminders: set, told, cancelled, and what is said when they ring."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from appliance.mind.perspective import turned
from appliance.mind.sayings import called, length, phrase
from appliance.mind.skills.plans import OWNER, Choice, Outcome, Plan, Said, Skills, kept
from appliance.mind.timer_items import Alarm, Due, Item, Timer, named
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import day_of, next_time, spoken_time, spoken_when

_REMINDER = re.compile(r"\breminders?\b|提醒", re.IGNORECASE)
_ASKS_HOW_LONG = re.compile(
    r"\b(?:left|remaining|to go) (?:on|for|of|in|with)\b"
    r"|\bhow (?:long|much longer|much time|many (?:more )?minutes)"
    r"(?: is left| is)? (?:until|till|before|for|on)\b"
    r"|^(?:is|are) (?:the|my) [\w ]{1,40} (?:done|ready|finished)\b"
    r"|还[有剩要]?剩?(?:多久|多长时间|多少时间|几分钟)|好了[吗没]",
    re.IGNORECASE,
)
_OFTEN = re.compile(
    r"\b(?:every|each) (?:\w+ ){0,2}(?:\w*day|week|weekend|month|year|hour|minute|second|morning"
    r"|afternoon|evening|night)s?$|\b(?:hourly|daily|weekly|monthly|yearly)$|^every\b|^每|每隔",
    re.IGNORECASE,
)
"""A repetition that was not understood, and so stayed in what is to be done."""
_SNOOZE_MS = 9 * 60_000
_TAKES_BACK = re.compile(
    r"\b(?:cancel|undo|scratch|never ?mind|take (?:that|it) back|forget (?:it|that|about it))\b"
    r"|取消|算了|罢了|撤销|不用了",
    re.IGNORECASE,
)
_ALL = re.compile(r"\b(?:all|every|everything|both)\b|全部|所有|都")


def list_timers(skills: Skills, said: Said) -> Plan:
    """Tell what is set, of the kind or by the name that was asked for, and how much is left."""
    language, name = said.language, said.text("name")
    every = skills.timers.list(OWNER)
    if _REMINDER.search(said.understood.text):
        kind, items = "reminder", [item for item in every if item.reminder]
    elif said.understood.intent == "alarm_list":
        kind, items = "alarm", [item for item in every if isinstance(item, Alarm)]
    else:
        kind, items = "timer", [item for item in every if isinstance(item, Timer)]
    if name and (meant := named(every, name)):
        items = meant
    if said.slots.keys() & {"days", "weekday"}:
        day = day_of(said.slots, skills.now().date())
        items = [item for item in items if _rings_on(skills, item, day)]
    told = [_left(skills, item, language) for item in items]
    return Plan(" ".join(told) or phrase(f"no_{kind}" if every else "none_set", language))


def names_running(skills: Skills, text: str) -> str:
    """The name of what runs and is asked about only by it: "how long is left on the pasta"."""
    if not _ASKS_HOW_LONG.search(text):
        return ""
    said = text.casefold()
    names = (item.name for item in skills.timers.list(OWNER) if item.name)
    return next((name for name in names if _holds(said, name.casefold())), "")


def _holds(text: str, name: str) -> bool:
    return re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", text) is not None


def _left(skills: Skills, item: Item, language: Language) -> str:
    if isinstance(item, Timer):
        what = called("timer", item.name, language, reminder=item.reminder)
        left = length(skills.timers.remaining_ms(item), language)
        return phrase("left", language, what=what, length=left)
    what = called("alarm", item.name, language, reminder=item.reminder)
    return phrase("left_until", language, what=what, time=_when(skills, item, language))


def _when(skills: Skills, item: Alarm, language: Language) -> str:
    now = skills.now()
    at = dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, now.tzinfo)
    return spoken_when(at, now, language, item.days)


def set_timer(skills: Skills, said: Said) -> Plan:
    """Start a timer; without a duration ask for it."""
    slots, language = said.slots, said.language
    seconds = slots.get("duration_s")
    if not isinstance(seconds, int | float):
        return Plan(phrase("for_how_long", language))
    name, reminder = said.text("name"), bool(slots.get("reminder"))
    if reminder and _OFTEN.search(name):
        return Plan(phrase("cannot_repeat", language))
    milliseconds = round(seconds * 1000)
    reply = phrase(
        "is_set",
        language,
        what=called("timer", name, language, reminder=reminder),
        length=length(milliseconds, language),
    )

    def act() -> Outcome:
        if slots.get("replace"):
            _take_back(skills, Timer, name)
        item = skills.timers.set_timer(milliseconds, name, OWNER, reminder=reminder)
        spoken = called("timer", item.name, language, reminder=reminder)
        done = length(item.duration_ms, language)
        reply = phrase("is_set", language, what=spoken, length=done)
        return Outcome(reply, undo=lambda: skills.timers.cancel([item.id]))

    return Plan(reply, kept(act, language))


def extend_timer(skills: Skills, said: Said) -> Plan:
    """Let the timer that is meant run longer."""
    language, name = said.language, said.text("name")
    by_ms = round(1000 * cast(float, said.slots["duration_s"]))

    def longer(item: Item) -> Outcome:
        timer = skills.timers.extend(item.id, by_ms)
        what = called("timer", timer.name, language, reminder=timer.reminder)
        left = length(skills.timers.remaining_ms(timer), language)
        reply = phrase("runs_for", language, what=what, length=left)
        return Outcome(reply, undo=lambda: skills.timers.extend(timer.id, -by_ms))

    def act() -> Outcome:
        found = skills.timers.find(name=name, kind="timer", owner=OWNER)
        running = [item for item in found if not item.ringing]
        if not running:
            return Outcome(phrase("no_such", language))
        return (
            longer(running[0]) if len(running) == 1 else _which(skills, running, language, longer)
        )

    return Plan(act=kept(act, language))


def snooze(skills: Skills, said: Said) -> Plan | None:
    """Have what rings ring again later; without anything that rings it is no command."""
    language = said.language
    if not skills.timers.ringing(OWNER):
        return None
    seconds, minutes = said.slots.get("duration_s"), said.slots.get("number")
    after_ms = _SNOOZE_MS
    if isinstance(seconds, int | float):
        after_ms = round(1000 * seconds)
    elif isinstance(minutes, int):
        after_ms = 60_000 * minutes

    def act() -> Outcome:
        for item in skills.timers.ringing(OWNER):
            skills.timers.snooze(item.id, after_ms)
        return Outcome(phrase("rings_again", language, length=length(after_ms, language)))

    return Plan(act=kept(act, language))


def set_alarm(skills: Skills, said: Said) -> Plan:
    """Set an alarm; without a time ask for it."""
    slots, language = said.slots, said.language
    name, reminder = said.text("name"), bool(slots.get("reminder"))
    if _OFTEN.search(name):
        return Plan(phrase("cannot_repeat", language))
    if "time" not in slots:
        return Plan(phrase("at_what_time", language))
    now = skills.now()
    at = next_time(slots, now)
    repeat = cast("tuple[int, ...]", slots.get("repeat", ()))
    what = called("alarm", name, language, reminder=reminder)
    when = spoken_when(at, now, language, repeat)
    reply = phrase("is_set_at", language, what=what, time=when)

    def act() -> Outcome:
        if slots.get("replace"):
            _take_back(skills, None, name)
        item = skills.timers.set_alarm(
            at.hour,
            at.minute,
            name=name,
            days=repeat,
            date=None if repeat else at.date(),
            owner=OWNER,
            reminder=reminder,
        )
        return Outcome(reply, undo=lambda: skills.timers.cancel([item.id]))

    return Plan(reply, kept(act, language))


def _take_back(skills: Skills, kind: type[Timer] | None, name: str) -> None:
    """Cancel the one that was set last: it is being corrected."""
    items = [
        item
        for item in skills.timers.list(OWNER)
        if isinstance(item, Timer) == (kind is Timer) and item.name == name
    ]
    if items:
        skills.timers.cancel([max(items, key=lambda item: item.saved_wall_ns).id])


def cancel(skills: Skills, said: Said) -> Plan:
    """Cancel what is meant; ask where several may be."""
    return Plan(act=kept(lambda: _cancel_now(skills, said), said.language))


def _cancel_now(skills: Skills, said: Said) -> Outcome:
    slots, language = said.slots, said.language
    named_kind = said.understood.intent.partition("_")[0]
    reminders = named_kind == "reminder"
    kind = None if reminders else named_kind
    ringing = skills.timers.acknowledge()
    if slots.get("all") or _ALL.search(said.understood.text):
        items = skills.timers.find(kind=cast(Any, kind), owner=OWNER)
        items = tuple(item for item in items if item.reminder or not reminders)
        return _cancelled(skills, items, language, ringing)
    seconds, time = slots.get("duration_s"), slots.get("time")
    found = skills.timers.find(
        name=said.text("name"),
        duration_ms=round(1000 * seconds) if isinstance(seconds, int | float) else None,
        time_of_day=_time_of_day(skills, time, slots),
        kind=cast(Any, kind),
        owner=OWNER,
    )
    found = tuple(item for item in found if item.reminder or not reminders)
    named = slots.keys() & {"name", "duration_s", "time"}
    if len(found) > 1 and not named and slots.keys() & {"days", "weekday"}:
        day = day_of(slots, skills.now().date())
        found = tuple(i for i in found if _rings_on(skills, i, day))
    if ringing and not named:
        found = ()
    if len(found) > 1:
        return _which(
            skills, found, language, lambda item: _cancelled(skills, [item], language, ())
        )
    return _cancelled(skills, found, language, ringing)


def _which(
    skills: Skills, items: Sequence[Item], language: Language, then: Callable[[Item], Outcome]
) -> Outcome:
    """Ask which of several is meant."""
    choices = tuple(
        Choice(_described(skills, item, language), kept(functools.partial(then, item), language))
        for item in items
    )
    names = ", ".join(choice.label for choice in choices)
    return Outcome(phrase("which_one", language, what=names), choices=choices)


def _time_of_day(
    skills: Skills, time: object, slots: Mapping[str, object]
) -> tuple[int, int] | None:
    if not isinstance(time, str):
        return None
    hour, minute = (int(part) for part in time.split(":"))
    if slots.get("either_half"):  # the half of the day in which there is one
        for half in (hour % 12, hour % 12 + 12):
            if skills.timers.find(time_of_day=(half, minute), kind="alarm", owner=OWNER):
                return half, minute
    return hour, minute


def _rings_on(skills: Skills, item: Item, day: dt.date) -> bool:
    at = dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, skills.now().tzinfo)
    return at.date() == day or (isinstance(item, Alarm) and day.weekday() in item.days)


def _cancelled(
    skills: Skills, items: Sequence[Item], language: Language, ringing: Sequence[Item]
) -> Outcome:
    gone = skills.timers.cancel([item.id for item in items])
    if not gone:
        return Outcome(phrase("okay" if ringing else "no_such", language))
    if len(gone) > 2:
        return Outcome(phrase("all_cancelled", language))
    names = ", ".join(_described(skills, item, language) for item in gone)
    return Outcome(phrase("cancelled", language, what=names))


def _described(skills: Skills, item: Item, language: Language) -> str:
    if isinstance(item, Timer):
        kind, extra = "timer", length(item.duration_ms, language)
    else:
        kind, extra = "alarm", _when(skills, item, language)
    what = called(cast(Any, kind), item.name, language, reminder=item.reminder)
    return f"{what} ({extra})"


def stop(skills: Skills, said: Said) -> Plan:
    """Silence what rings, or take back what was just done."""
    undo = said.undo if _TAKES_BACK.search(said.understood.text) else None
    if undo is not None and not skills.timers.ringing(OWNER):

        def back() -> Outcome:
            undo()
            return Outcome(phrase("taken_back", said.language), forgotten=True)

        return Plan(act=kept(back, said.language))

    def act() -> Outcome:
        skills.timers.acknowledge()
        return Outcome(phrase("okay", said.language))

    return Plan(phrase("okay", said.language), act)


def rings(due: Sequence[Due], now: dt.datetime, language: Language) -> str:
    """What is said when these ring."""
    said = []
    for one in due:
        item = one.item
        kind: Literal["timer", "alarm"] = "timer" if isinstance(item, Timer) else "alarm"
        what = called(kind, item.name, language, reminder=item.reminder)
        if kind == "timer" and one.late:
            said.append(
                phrase("was_due", language, what=what, length=length(one.late_ms, language))
            )
        elif item.reminder and item.name:
            said.append(phrase("reminds", language, name=turned(item.name)))
        elif kind == "timer":
            said.append(phrase("is_done", language, what=what))
        else:
            said.append(phrase("alarm_rings", language, time=spoken_time(now, language), what=what))
    return " ".join(said)

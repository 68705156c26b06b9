"""Timers, alarms and reminders: set, told, cancelled, and what is said when they ring."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from appliance.mind.perspective import turned
from appliance.mind.sayings import called, length, phrase
from appliance.mind.skills.plans import OWNER, Outcome, Plan, Said, Skills, kept
from appliance.mind.timer_items import Due, Item, Timer
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import day_of, next_time, spoken_date, spoken_time

_ALL = re.compile(r"\b(?:all|every|everything|both)\b|全部|所有|都")


def list_timers(skills: Skills, said: Said) -> Plan:
    """Tell what is set, and how much of it is left."""
    return Plan(skills.tool("timer_list", said.language).reply)


def set_timer(skills: Skills, said: Said) -> Plan:
    """Start a timer; without a duration ask for it."""
    slots, language = said.slots, said.language
    seconds = slots.get("duration_s")
    if not isinstance(seconds, int | float):
        return Plan(phrase("for_how_long", language))
    name, reminder = said.text("name"), bool(slots.get("reminder"))
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


def set_alarm(skills: Skills, said: Said) -> Plan:
    """Set an alarm; without a time ask for it."""
    slots, language = said.slots, said.language
    if "time" not in slots:
        return Plan(phrase("at_what_time", language))
    now = skills.now()
    at = next_time(slots, now)
    name, reminder = said.text("name"), bool(slots.get("reminder"))
    what = called("alarm", name, language, reminder=reminder)
    time = spoken_time(at, language)
    days = (at.date() - now.date()).days
    if days == 0:
        reply = phrase("is_set_at", language, what=what, time=time)
    elif days == 1:
        reply = phrase("is_set_tomorrow", language, what=what, time=time)
    else:
        day = " ".join(spoken_date(at.date(), language))
        reply = phrase("is_set_on", language, what=what, time=time, day=day)

    def act() -> Outcome:
        if slots.get("replace"):
            _take_back(skills, None, name)
        item = skills.timers.set_alarm(
            at.hour, at.minute, name=name, date=at.date(), owner=OWNER, reminder=reminder
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
        found = tuple(i for i in found if _rings_on(skills, i) == day)
    if ringing and not named:
        found = ()
    if len(found) > 1:
        names = ", ".join(_described(item, language) for item in found)
        return Outcome(phrase("which_one", language, what=names))
    return _cancelled(skills, found, language, ringing)


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


def _rings_on(skills: Skills, item: Item) -> dt.date:
    return dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, skills.now().tzinfo).date()


def _cancelled(
    skills: Skills, items: Sequence[Item], language: Language, ringing: Sequence[Item]
) -> Outcome:
    gone = skills.timers.cancel([item.id for item in items])
    if not gone:
        return Outcome(phrase("okay" if ringing else "no_such", language))
    if len(gone) > 2:
        return Outcome(phrase("all_cancelled", language))
    names = ", ".join(_described(item, language) for item in gone)
    return Outcome(phrase("cancelled", language, what=names))


def _described(item: Item, language: Language) -> str:
    if isinstance(item, Timer):
        extra = length(item.duration_ms, language)
        return f"{called('timer', item.name, language, reminder=item.reminder)} ({extra})"
    extra = spoken_time(f"{item.hour}:{item.minute:02}", language)
    return f"{called('alarm', item.name, language, reminder=item.reminder)} ({extra})"


def stop(skills: Skills, said: Said) -> Plan:
    """Silence what rings."""

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

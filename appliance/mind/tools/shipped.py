"""The tools that come with the appliance, around what the mind already has.

Times and amounts in the sentences are figures ("7:05", "2 minutes"): what is spoken goes through
the language's own normalisation afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from appliance.mind.sayings import called, length, phrase
from appliance.mind.store import StoreError
from appliance.mind.timer_items import DAILY, WEEKEND, WORKDAYS, Alarm, Item, Timer, TimerError
from appliance.mind.timers import Timers
from appliance.mind.tools.notes import Notes
from appliance.mind.tools.registry import Arguments, Language, Tool, ToolError, typed_tool

_REPEATS = {"once": (), "daily": DAILY, "workdays": WORKDAYS, "weekend": WEEKEND}
Name = Annotated[str, msgspec.Meta(max_length=80)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Hour = Annotated[int, msgspec.Meta(ge=0, le=23)]
Minute = Annotated[int, msgspec.Meta(ge=0, le=59)]


class Clock(Arguments, frozen=True):
    """Tells the time and date."""


class SetTimer(Arguments, frozen=True):
    """Starts a timer that rings after some hours, minutes and seconds."""

    hours: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0
    minutes: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    seconds: Annotated[int, msgspec.Meta(ge=0, le=9999)] = 0
    name: Name = ""


class SetAlarm(Arguments, frozen=True):
    """Sets an alarm for a time of day (24 hours)."""

    hour: Hour
    minute: Minute = 0
    repeat: Literal["once", "daily", "workdays", "weekend"] = "once"
    name: Name = ""


class ListTimers(Arguments, frozen=True):
    """Tells which timers and alarms are set, and how long they have left."""


class CancelTimer(Arguments, frozen=True):
    """Cancels a timer or alarm: by its name, or the only one there is."""

    name: Name = ""
    kind: Literal["timer", "alarm", "any"] = "any"


class Calculate(Arguments, frozen=True):
    """Works out an arithmetic expression such as (3 + 4) * 12.5."""

    expression: Annotated[str, msgspec.Meta(max_length=120)]


class AddNote(Arguments, frozen=True):
    """Writes a note down."""

    text: Text


class ListNotes(Arguments, frozen=True):
    """Reads notes, all or those about something."""

    about: Name = ""


class DeleteNote(Arguments, frozen=True):
    """Deletes the note about something."""

    about: Name


class SystemStatus(Arguments, frozen=True):
    """Tells whether every part of the appliance works."""


class Places(Arguments, frozen=True):
    """Tells which rooms and devices are known."""


def clock_tool(now: Callable[[], dt.datetime]) -> Tool[Clock]:
    """``clock``: the local time."""

    def say(value: Any, language: Language) -> str:  # noqa: ANN401
        moment = dt.datetime.fromisoformat(value["local"])
        day = (
            f"{moment.year}年{moment.month}月{moment.day}日" if language == "zh" else moment.date()
        )
        return phrase("it_is", language, time=f"{_time(moment)}, {day}")

    return typed_tool(
        Clock,
        name="clock",
        run=lambda _: {"local": now().isoformat(timespec="minutes")},
        say=say,
        label={"en": "the clock", "zh": "时钟"},
    )


def timer_tools(timers: Timers, owner: str) -> tuple[Tool[Any], ...]:
    """``timer_set``, ``alarm_set``, ``timer_list``, ``timer_cancel``, for one session or user."""

    def set_timer(asked: SetTimer) -> dict[str, Any]:
        seconds = asked.hours * 3600 + asked.minutes * 60 + asked.seconds
        if not seconds:
            raise ToolError("there was no duration")
        return _described(
            timers, _tried(lambda: timers.set_timer(seconds * 1000, asked.name, owner))
        )

    def set_alarm(asked: SetAlarm) -> dict[str, Any]:
        alarm = _tried(
            lambda: timers.set_alarm(
                asked.hour, asked.minute, name=asked.name, days=_REPEATS[asked.repeat], owner=owner
            )
        )
        return _described(timers, alarm)

    def cancel(asked: CancelTimer) -> dict[str, Any]:
        kind = None if asked.kind == "any" else asked.kind
        found = timers.find(name=asked.name, kind=kind, owner=owner)
        if len(found) == 1:
            found = _tried(lambda: timers.cancel([found[0].id]))
            return {"cancelled": [_described(timers, item) for item in found]}
        return {"cancelled": [], "choice": [_described(timers, item) for item in found]}

    def say_cancelled(value: Any, language: Language) -> str:  # noqa: ANN401
        if value["cancelled"]:
            return phrase("cancelled", language, what=_names(value["cancelled"], language))
        if value["choice"]:
            return phrase("which_one", language, what=_names(value["choice"], language))
        return phrase("no_such", language)

    def say_list(value: Any, language: Language) -> str:  # noqa: ANN401
        lines = [_left(item, language) for item in value["items"]]
        return " ".join(lines) or phrase("none_set", language)

    return (
        typed_tool(
            SetTimer,
            name="timer_set",
            run=set_timer,
            say=lambda value, language: phrase(
                "is_set",
                language,
                what=_name(value, language),
                length=length(value["duration_ms"], language),
            ),
            label={"en": "the timer", "zh": "计时器"},
            permission="timers",
        ),
        typed_tool(
            SetAlarm,
            name="alarm_set",
            run=set_alarm,
            say=lambda value, language: phrase(
                "is_set_at", language, what=_name(value, language), time=value["time"]
            ),
            label={"en": "the alarm", "zh": "闹钟"},
            permission="timers",
        ),
        typed_tool(
            ListTimers,
            name="timer_list",
            run=lambda _: {"items": [_described(timers, item) for item in timers.list(owner)]},
            say=say_list,
            label={"en": "the list of timers", "zh": "计时器列表"},
        ),
        typed_tool(
            CancelTimer,
            name="timer_cancel",
            run=cancel,
            say=say_cancelled,
            label={"en": "cancelling", "zh": "取消"},
            permission="timers",
        ),
    )


def calculator_tool(
    calculate: Callable[[str], float | None], speak: Callable[[float], str]
) -> Tool[Calculate]:
    """``calculator``.

    Args:
        calculate: value of an expression; None when it has none. Must be bounded.
        speak: a number for speaking.
    """

    def run(asked: Calculate) -> dict[str, str]:
        value = calculate(asked.expression)
        if value is None:
            raise ToolError("that has no result")
        return {"value": speak(value)}

    return typed_tool(
        Calculate,
        name="calculator",
        run=run,
        say=lambda value, language: phrase("result", language, value=value["value"]),
        label={"en": "the calculator", "zh": "计算器"},
    )


def note_tools(notes: Notes, owner: str) -> tuple[Tool[Any], ...]:
    """``note_add``, ``note_list``, ``note_delete`` (which asks first), for one user."""

    def delete(asked: DeleteNote) -> dict[str, Any]:
        found = notes.find(asked.about, owner)
        if len(found) == 1:
            _tried(lambda: notes.delete(found))
            return {"deleted": found[0].text}
        return {"deleted": None, "choice": [note.text for note in found]}

    def say_deleted(value: Any, language: Language) -> str:  # noqa: ANN401
        if value["deleted"] is not None:
            return phrase("note_deleted", language, text=value["deleted"])
        if value["choice"]:
            return phrase("which_note", language, text="; ".join(value["choice"]))
        return phrase("no_such_note", language)

    return (
        typed_tool(
            AddNote,
            name="note_add",
            run=lambda asked: {"text": _tried(lambda: notes.add(asked.text, owner)).text},
            say=lambda value, language: phrase("noted", language, text=value["text"]),
            label={"en": "the note", "zh": "笔记"},
            permission="notes",
        ),
        typed_tool(
            ListNotes,
            name="note_list",
            run=lambda asked: {"notes": [n.text for n in notes.find(asked.about, owner)]},
            say=lambda value, language: (
                phrase("notes", language, text="; ".join(value["notes"]))
                if value["notes"]
                else phrase("no_notes", language)
            ),
            label={"en": "the notes", "zh": "笔记"},
            permission="notes",
        ),
        typed_tool(
            DeleteNote,
            name="note_delete",
            run=delete,
            say=say_deleted,
            label={"en": "deleting the note", "zh": "删除笔记"},
            permission="notes",
            confirm=lambda asked, language: phrase("confirm_delete", language, text=asked.about),
        ),
    )


def status_tool(states: Callable[[], Mapping[str, str]]) -> Tool[SystemStatus]:
    """``system_status``.

    Args:
        states: state of each process, such as ``ready`` or ``silent`` (`appliance.health.Board`).
    """

    def say(value: Any, language: Language) -> str:  # noqa: ANN401
        wrong = [
            f"{name} {state}" for name, state in value["processes"].items() if state != "ready"
        ]
        if not wrong and value["processes"]:
            return phrase("all_well", language)
        return phrase("not_well", language, what=", ".join(wrong) or "?")

    return typed_tool(
        SystemStatus,
        name="system_status",
        run=lambda _: {"processes": dict(states())},
        say=say,
        label={"en": "the system status", "zh": "系统状态"},
    )


def places_tool(rooms: Sequence[str], devices: Sequence[str]) -> Tool[Places]:
    """``places``: the vocabulary of rooms and devices, as it is configured."""

    def say(value: Any, language: Language) -> str:  # noqa: ANN401
        known = [*value["rooms"], *value["devices"]]
        if not known:
            return phrase("nothing_known", language)
        return phrase("known", language, what=", ".join(known))

    return typed_tool(
        Places,
        name="places",
        run=lambda _: {"rooms": list(rooms), "devices": list(devices)},
        say=say,
        label={"en": "the list of rooms", "zh": "房间列表"},
    )


def _tried(action: Callable[[], Any]) -> Any:  # noqa: ANN401
    """The action's result; what it can fail with becomes the reason that is spoken."""
    try:
        return action()
    except TimerError as error:
        raise ToolError(str(error)) from error
    except StoreError as error:
        raise ToolError("it could not be stored") from error


def _described(timers: Timers, item: Item) -> dict[str, Any]:
    """An item as data for the model and the templates."""
    described: dict[str, Any] = {
        "name": item.name,
        "reminder": item.reminder,
        "left_ms": round(timers.remaining_ms(item)),
    }
    if isinstance(item, Timer):
        return {**described, "kind": "timer", "duration_ms": item.duration_ms}
    local = dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, ZoneInfo(item.zone))
    return {**described, "kind": "alarm", "time": _time(local), "repeats": _repeats(item)}


def _repeats(alarm: Alarm) -> str:
    return next((name for name, days in _REPEATS.items() if days == alarm.days), "some days")


def _time(moment: dt.datetime) -> str:
    return f"{moment.hour}:{moment.minute:02}"


def _name(item: Mapping[str, Any], language: Language) -> str:
    return called(item["kind"], item["name"], language, reminder=item["reminder"])


def _names(items: Sequence[Mapping[str, Any]], language: Language) -> str:
    def one(item: Mapping[str, Any]) -> str:
        extra = length(item["duration_ms"], language) if item["kind"] == "timer" else item["time"]
        return f"{_name(item, language)} ({extra})"

    return ", ".join(one(item) for item in items)


def _left(item: Mapping[str, Any], language: Language) -> str:
    if item["kind"] == "timer":
        left = length(item["left_ms"], language)
        return phrase("left", language, what=_name(item, language), length=left)
    return phrase("left_until", language, what=_name(item, language), time=item["time"])

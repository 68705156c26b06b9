"""The replies that need nothing but a clock. Pure: same slots, same moment, same sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from appliance.mind.timer_items import DAILY, WORKDAYS
from appliance.mind.understanding.arithmetic import spoken
from appliance.mind.understanding.lexicon import Lexicon
from appliance.mind.understanding.places import zone
from appliance.mind.understanding.slots import WEEKDAYS, Slots
from appliance.mind.understanding.units import convert

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_CHINESE_WEEKDAYS = "一二三四五六日"


def answer(
    intent: str,
    slots: Slots,
    now: datetime,
    *,
    language: str,
    lexicon: Lexicon,
    responses: Mapping[str, str],
) -> str | None:
    """What to say, or None when the intent needs more than a clock (timers, memory, volume).

    Args:
        intent: as in `Understood`.
        slots: as in `Understood`.
        now: local time; it must be aware of its zone for questions about other places.
        language: ``en`` or ``zh``.
        lexicon: names of units and places.
        responses: templates by name.
    """
    match intent:
        case "time_now":
            return _time(slots, now, language, lexicon, responses)
        case "date":
            return _date(slots, now.date(), language, responses)
        case "convert":
            return _conversion(slots, lexicon, responses)
        case "calculate":
            result = slots.get("result")
            number = result if isinstance(result, int | float) else None
            key = "calculate_none" if number is None else "calculate"
            return responses[key].format(result=spoken(number or 0))
        case "unknowable" | "undoable":
            key = f"{intent}_{slots['kind']}"
        case "greet":
            part = "morning" if now.hour < 12 else "afternoon" if now.hour < 18 else "evening"
            key = f"greet_{part}" if now.hour >= 4 else "greet"
        case "goodbye":
            key = "goodbye" if 4 <= now.hour < 21 else "goodbye_night"
        case _:
            key = intent if intent == "thanks" else ""
    return responses.get(key)


def day_of(slots: Slots, today: date) -> date:
    """The day that ``days``, or ``weekday`` and ``next``, name.

    A weekday is its next occurrence, today included; ``next`` is that of the following week
    (weeks begin on Monday).
    """
    weekday = slots.get("weekday")
    if isinstance(weekday, str):
        wanted = WEEKDAYS.index(weekday)
        if slots.get("next"):
            return today + timedelta(days=7 - today.weekday() + wanted)
        return today + timedelta(days=(wanted - today.weekday()) % 7)
    days = slots.get("days", 0)
    return today + timedelta(days=days if isinstance(days, int) else 0)


def next_time(slots: Slots, now: datetime) -> datetime:
    """When an alarm with these slots (``time``, ``either_half``, a day) next rings, after ``now``.

    Without a half of the day the sooner of the two is meant; with a day, or where it repeats, it is
    the morning's.
    """
    hour, minute = (int(part) for part in str(slots["time"]).split(":"))
    at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if isinstance(repeat := slots.get("repeat"), tuple):
        week = (at + timedelta(days=ahead) for ahead in range(8))
        return next(day for day in week if day > now and day.weekday() in repeat)
    if "days" in slots or "weekday" in slots:
        day = day_of(slots, now.date())
        at = at.replace(year=day.year, month=day.month, day=day.day)
        return at if at > now else at + timedelta(days=7 if "weekday" in slots else 1)
    if slots.get("either_half"):
        halves = (at.replace(hour=hour % 12), at.replace(hour=hour % 12 + 12))
        later = [half for half in halves if half > now]
        return later[0] if later else halves[0] + timedelta(days=1)
    return at if at > now else at + timedelta(days=1)


def spoken_time(moment: datetime | str, language: str) -> str:
    """A time of day as it is said: "8:40 PM", "8 AM"; "晚上8点40分". ``HH:MM`` will do too."""
    if isinstance(moment, str):
        hour, minute = (int(part) for part in moment.split(":"))
    else:
        hour, minute = moment.hour, moment.minute
    twelve = hour % 12 or 12
    if language == "zh":
        part = (
            "凌晨" if hour < 5 else "早上" if hour < 9 else "上午" if hour < 12
            else "中午" if hour == 12 else "下午" if hour < 18 else "晚上"
        )  # fmt: skip
        return f"{part}{twelve}点{f'{minute}分' if minute else ''}"
    half = "AM" if hour < 12 else "PM"
    return f"{twelve}:{minute:02d} {half}" if minute else f"{twelve} {half}"


def spoken_date(day: date, language: str) -> tuple[str, str]:
    """Weekday and date as they are said: ("Friday", "November 27th"); ("星期五", "11月27日")."""
    if language == "zh":
        return f"星期{_CHINESE_WEEKDAYS[day.weekday()]}", f"{day.month}月{day.day}日"
    suffix = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return (
        WEEKDAYS[day.weekday()].capitalize(),
        f"{_MONTHS[day.month - 1]} {day.day}{suffix}",
    )


def spoken_days(days: Sequence[int], language: str) -> str:
    """The weekdays (Monday 0) on which something repeats: "on weekdays", "every Monday"."""
    known = {DAILY: ("every day", "每天"), WORKDAYS: ("on weekdays", "工作日")}
    if found := known.get(tuple(days)):
        return found[language == "zh"]
    if language == "zh":
        return "每" + "、".join(f"星期{_CHINESE_WEEKDAYS[day]}" for day in days)
    return "every " + " and ".join(WEEKDAYS[day].capitalize() for day in days)


def spoken_when(at: datetime, now: datetime, language: str, repeat: Sequence[int] = ()) -> str:
    """A moment to come as it is said: "7 AM", "7 AM tomorrow", "7 AM on weekdays"."""
    time, days = spoken_time(at, language), (at.date() - now.date()).days
    if repeat:
        day = spoken_days(repeat, language)
    elif days in (0, 1):
        day = ("", "明天" if language == "zh" else "tomorrow")[days]
    else:
        day = " ".join(spoken_date(at.date(), language))
        day = day if language == "zh" else f"on {day}"
    return f"{day}{time}" if language == "zh" else f"{time} {day}".strip()


def _time(
    slots: Slots, now: datetime, language: str, lexicon: Lexicon, responses: Mapping[str, str]
) -> str | None:
    place = slots.get("place")
    if not isinstance(place, str):
        return responses["time_now"].format(time=spoken_time(now, language))
    there = zone(place, lexicon.places)
    if there is None:
        return None
    name = place.title().replace("The Uk", "the UK") if language == "en" else place
    time = spoken_time(now.astimezone(there), language)
    return responses["time_now_place"].format(place=name, time=time)


def _date(slots: Slots, today: date, language: str, responses: Mapping[str, str]) -> str:
    if slots.get("check"):
        right = day_of(slots, today) == today
        weekday, _ = spoken_date(today, language)
        return responses["date_yes" if right else "date_no"].format(weekday=weekday)
    day = day_of(slots, today)
    days = (day - today).days
    which = {0: "date_today", 1: "date_tomorrow", -1: "date_yesterday"}.get(
        days, "date_future" if days > 0 else "date_past"
    )
    weekday, spoken_day = spoken_date(day, language)
    return responses[which].format(weekday=weekday, date=spoken_day)


def _conversion(slots: Slots, lexicon: Lexicon, responses: Mapping[str, str]) -> str | None:
    value, source, target = slots["value"], str(slots["from"]), str(slots["to"])
    if not isinstance(value, int | float):
        return None
    result = convert(value, source, target)
    if result is None:
        return None
    said = spoken(result)
    return responses["convert" if value == 1 else "convert_many"].format(
        value=spoken(value),
        source=lexicon.unit_names[source][value != 1],
        result=said,
        target=lexicon.unit_names[target][said != "1"],
    )

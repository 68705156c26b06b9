"""Reads durations, times, days, sums, quantities and places in a normalised English sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from appliance.mind.timer_items import DAILY, WEEKEND, WORKDAYS
from appliance.mind.understanding import numbers
from appliance.mind.understanding.lexicon import Lexicon
from appliance.mind.understanding.slots import (
    MAX_TIMER_S,
    WEEKDAYS,
    Slots,
    Variant,
    chain,
    clock_slots,
    conversion,
    expression,
    mask,
)

_SECONDS = {"h": 3600, "m": 60, "s": 1}
_LENGTH = r"(?:hours?|hrs?|minutes?|mins?|seconds?|secs?)"
_PIECE = re.compile(
    rf"(?:(?P<number>\d+(?:\.\d+)?)|(?P<half>half)(?: an?)?|(?P<quarter>(?:a )?quarter)(?: of)? an"
    rf"|(?P<three>(?:3|three) quarters)(?: of)? an|(?P<one>an?)) (?P<unit>{_LENGTH})\b"
    r"(?P<and> and a (?:half|quarter)\b)?"
)
_BARE_MINUTES = re.compile(r"(\d{1,2})(?! ?\w)")
_JOINT = re.compile(r" (?:and )?(?=\d|half|a )")
_HALF_OF_DAY = (
    r"(?: (?P<half>am|pm)\b| ?(?:in the |this |at )?"
    r"(?P<part>morning|afternoon|evening|night|tonight)\b)?"
)
_CLOCK = re.compile(
    r"(?:(?P<noon>noon|midday)|(?P<midnight>midnight)"
    r"|half (?:past )?(?P<half_past>\d{1,2})"
    r"|(?:a )?quarter (?P<quarter>past|after|to|of) (?P<quarter_hour>\d{1,2})"
    r"|(?P<minutes>\d{1,2})(?: minutes?)? (?P<side>past|after|to) (?P<side_hour>\d{1,2})(?! minute)"
    r"|(?P<joined>\d{1,2}[0-5]\d)(?= [ap]m\b)"
    r"|(?P<hour>\d{1,2})(?::(?P<colon>\d{2})|\.(?P<dot>\d{2})(?= [ap]m)| (?:(?:oh|o) )?"
    r"(?P<spaced>\d{1,2}))?)"
    r"(?P<oclock> ?oclock)?" + _HALF_OF_DAY + r"(?! (?:percent|times|%))\b"
)
_DAY = re.compile(
    r"(?:on )?(?:the )?(?:(?P<after>day after tomorrow)|(?P<before>day before yesterday)"
    r"|(?P<today>today|tonight|this (?=morning|afternoon|evening))"
    r"|(?P<tomorrow>tomorrow)|(?P<yesterday>yesterday)"
    r"|(?:in )?(?P<number>\d{1,3}) days? from (?:now|today)|in (?P<in>\d{1,3}) days?"
    r"|(?P<ago>\d{1,3}) days? ago|(?P<week>in a week)"
    r"|(?:(?P<next>next)|this|coming)? ?(?P<weekday>" + "|".join(WEEKDAYS) + r")s?)"
    r"(?: ?(?:in the )?(?P<part>morning|afternoon|evening|night))?\b"
)
_NAMED = rf"(?:{'|'.join(WEEKDAYS)})"
_EVERY = re.compile(
    r"(?:on )?(?:(?P<daily>(?:every|each) (?:single )?day|daily"
    r"|(?:every|each) (?=morning|afternoon|evening|night))"
    r"|(?P<work>(?:every|each) (?:week ?|working |work ?)day|(?:week|work) ?days"
    r"|monday (?:to|through|till|until) friday)"
    r"|(?P<weekend>(?:every|each) weekend|weekends)"
    rf"|(?P<named>(?:every|each) {_NAMED}(?: (?:and )?(?:every |each )?{_NAMED})*"
    rf"|{_NAMED}s(?: (?:and )?{_NAMED}s)*))\b"
    r"(?: ?(?:in the )?(?P<part>morning|afternoon|evening|night)\b)?"
)
_RELATIVE = {"after": 2, "before": -2, "tomorrow": 1, "yesterday": -1, "week": 7}
_PARTS = {"morning": "am", "afternoon": "pm", "evening": "pm", "night": "night", "tonight": "night"}
_ORDINAL_WORDS = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_ORDINALS = {
    word: number
    for number, word in enumerate(
        [
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
        ],
        start=1,
    )
} | {"last": -1, "latest": -1}
_ORDINAL = re.compile(rf"\b(?:{'|'.join(_ORDINALS)}|\d+(?:st|nd|rd|th))\b")
_LINK = re.compile(r" ?(?:at|for|on|by)? ?")
_START = re.compile(r"\b(?=\w)")
_PERCENT = re.compile(r"\b(\d+(?:\.\d+)?) ?(?:percent|%)(?!\w)")
_NUMBER = re.compile(r"(?<![\w.:{])\d+(?:\.\d+)?(?![\w.:])")


def words(tokens: Sequence[str]) -> str:
    """The sentence on which everything here works: numbers in digits, one space between words."""
    return " ".join(numbers.english(tokens))


def duration(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads "1 hour and 30 minutes": ``duration_s``."""
    seconds, end, last = 0.0, start, 0
    at = start
    while (piece := _PIECE.match(text, at)) is not None:
        unit = _SECONDS[piece["unit"][0]]
        if last and unit >= last:
            break
        last, end = unit, piece.end()
        shares = {"half": 0.5, "quarter": 0.25, "three": 0.75}
        amount = next((share for name, share in shares.items() if piece[name]), 1.0)
        amount = float(piece["number"] or amount)
        if piece["and"]:
            amount += 0.5 if "half" in piece["and"] else 0.25
        seconds += amount * unit
        joint = _JOINT.match(text, end)
        if not joint:
            break
        at = joint.end()
        bare = _BARE_MINUTES.match(text, at)
        if unit == 3600 and bare:  # one hour thirty
            seconds += 60 * int(bare[1])
            end = bare.end()
            break
    whole = round(seconds)
    return (end, {"duration_s": whole}) if 0 < whole <= MAX_TIMER_S else None


def clock(text: str, start: int, *, bare: bool = False) -> tuple[int, Slots] | None:
    """Reads a time of day; a lone number counts as one only when ``bare``."""
    found = _CLOCK.match(text, start)
    if not found:
        return None
    half = found["half"] or _PARTS.get(found["part"] or "", "")
    if found["noon"] or found["midnight"]:
        slots = clock_slots(12 if found["noon"] else 0, 0, "24")
        return (found.end(), slots) if slots else None
    if found["half_past"]:
        hour, minute = int(found["half_past"]), 30
    elif found["quarter"]:
        hour, minute = _beside(int(found["quarter_hour"]), 15, found["quarter"])
    elif found["side"]:
        hour, minute = _beside(int(found["side_hour"]), int(found["minutes"]), found["side"])
    elif found["joined"]:  # "430 am"
        hour, minute = divmod(int(found["joined"]), 100)
    else:
        minutes = found["colon"] or found["dot"] or found["spaced"]
        hour, minute = int(found["hour"]), int(minutes or 0)
        if not (minutes or half or found["oclock"] or bare):
            return None
        if found["colon"] and len(found["hour"]) == 2 and found["hour"][0] == "0":
            half = half or "24"
    slots = clock_slots(hour, minute, half)
    return (found.end(), slots) if slots else None


def _beside(hour: int, minutes: int, side: str) -> tuple[int, int]:
    if side in ("past", "after"):
        return hour, minutes
    return (hour - 1 if hour > 1 else 12), 60 - minutes


def day(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads a day: ``days`` from today (absent for today), ``weekday`` and ``next``, or ``repeat``:
    the weekdays on which it is to be, Monday 0."""
    if every := _EVERY.match(text, start):
        return every.end(), {"repeat": _repeated(every)}
    found = _DAY.match(text, start)
    if not found:
        return None
    slots: dict[str, object] = {}
    offset = next((days for name, days in _RELATIVE.items() if found[name]), 0)
    offset = offset or int(found["number"] or found["in"] or 0) or -int(found["ago"] or 0)
    if offset:
        slots["days"] = offset
    if found["weekday"]:
        slots["weekday"] = found["weekday"]
        if found["next"]:
            slots["next"] = True
    return found.end(), slots


def _repeated(every: re.Match[str]) -> tuple[int, ...]:
    if every["named"]:
        return tuple(n for n, weekday in enumerate(WEEKDAYS) if weekday in every["named"])
    return DAILY if every["daily"] else WORKDAYS if every["work"] else WEEKEND


def moment(text: str, start: int, *, bare: bool = False) -> tuple[int, Slots] | None:
    """Reads a time of day with or without a day, in either order."""
    slots: dict[str, object] = {}
    first_day = day(text, start)
    part, at = "", start
    if first_day:
        slots |= first_day[1]
        part = _part_of_day(text[start : first_day[0]])
        at = _after_link(text, first_day[0])
    time = clock(text, at, bare=bare)
    if not time:
        return None
    end, time_slots = time
    slots |= time_slots
    if not first_day and (later := day(text, _after_link(text, end))):
        part = _part_of_day(text[end : later[0]])
        end = later[0]
        slots |= later[1]
    if part and slots.pop("either_half", False):
        hour, minute = (int(n) for n in str(slots["time"]).split(":"))
        slots |= clock_slots(hour, minute, _PARTS[part]) or {}
    return end, slots


def _part_of_day(text: str) -> str:
    return next((part for part in _PARTS if text.endswith(part)), "")


def _after_link(text: str, at: int) -> int:
    link = _LINK.match(text, at)
    return link.end() if link else at


def _ordinal(text: str, start: int) -> tuple[int, Slots] | None:
    found = _ORDINAL.match(text, start)
    if not found:
        return None
    number = _ORDINALS.get(found[0]) or int(re.sub(r"\D", "", found[0]))
    return found.end(), {"number": number}


def _percent(text: str) -> Variant | None:
    found = _PERCENT.search(text)
    if not found or float(found[1]) > 100:
        return None
    masked = f"{text[: found.start()]}{{percent}}{text[found.end() :]}"
    return Variant(masked, {"percent": round(float(found[1]))})


def _number(text: str) -> Variant | None:
    found = _NUMBER.search(text)
    if not found or "." in found[0] or int(found[0]) > 1000:
        return None
    masked = f"{text[: found.start()]}{{number}}{text[found.end() :]}"
    return Variant(masked, {"number": int(found[0])})


class English:
    """The slot readers of one lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        names = "|".join(sorted(map(re.escape, lexicon.units), key=len, reverse=True)) or "(?!)"
        self._unit = re.compile(rf"\b(?:{names})\b")
        self._quantity = re.compile(
            rf"(?P<sign>minus |- ?)?(?:(?P<number>\d+(?:\.\d+)?)|(?P<half>half (?:of )?an?)|an?) "
            rf"(?:degrees? )?(?P<unit>{names})\b(?P<and> and a half\b)?"
        )
        places = "|".join(sorted(map(re.escape, lexicon.places), key=len, reverse=True)) or "(?!)"
        self._place = re.compile(
            rf"(?:(?<=\bin )|(?<=\btime )|^)(?:{places})(?= time\b|$| right now)"
            rf"|(?:(?<=\bin )|(?<=\btime ))(?:{places})\b"
        )

    def variants(self, text: str) -> Iterator[Variant]:
        """Every reading of ``text`` (from `words`) that has a slot, likeliest first."""
        plain = (
            lambda t: mask(t, "moment", _START, moment),
            lambda t: mask(t, "duration", _START, duration),
            lambda t: mask(t, "day", _START, day),
            self.place,
            _percent,
            _number,
        )
        timed = chain(text, plain[1], plain[0], *plain[2:])
        if timed.text != text:
            yield timed
            bare = chain(
                text, lambda t: mask(t, "moment", _START, lambda x, i: moment(x, i, bare=True))
            )
            if bare.text not in (text, timed.text):
                yield bare
            ordinal = mask(text, "ordinal", _ORDINAL, _ordinal)
            if ordinal:
                yield ordinal
        elif ordinal := mask(text, "ordinal", _ORDINAL, _ordinal):
            yield ordinal
        if sum_ := expression(text, self._lexicon):
            yield sum_
        if measured := self._conversion(text):
            yield measured

    def place(self, text: str) -> Variant | None:
        """Masks a city: ``place`` as it was said, in lower case."""
        found = self._place.search(text)
        if not found:
            return None
        masked = f"{text[: found.start()]}{{place}}{text[found.end() :]}"
        return Variant(masked, {"place": found[0]})

    def _conversion(self, text: str) -> Variant | None:
        quantity = self._quantity.search(text)
        if not quantity:
            return None
        value = float(quantity["number"] or (0.5 if quantity["half"] else 1))
        value = -value if quantity["sign"] else value + (0.5 if quantity["and"] else 0)
        rest = f"{text[: quantity.start()]}{{quantity}}{text[quantity.end() :]}"
        unit = self._unit.search(rest)
        if not unit:
            return None
        masked = f"{rest[: unit.start()]}{{unit}}{rest[unit.end() :]}"
        variant = Variant(
            re.sub(r"degrees? (?=\{unit)", "", masked),
            {
                "value": value,
                "from": self._lexicon.units[quantity["unit"]],
                "to": self._lexicon.units[unit[0]],
            },
        )
        fitting = conversion(variant)
        return Variant(variant.text, fitting) if fitting else None

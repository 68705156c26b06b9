"""Reads durations, times, days, sums, quantities and places in a normalised Chinese sentence."""

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

_PIECE = re.compile(
    r"(?:(?P<number>\d+(?:\.\d+)?|\d+点\d+(?=个?小时|个?钟头))|(?P<half>半))个?"
    r"(?P<and_before>半)?(?P<unit>小时|钟头|分钟?|秒钟?|刻钟?)(?P<and>半钟?)?"
)
_SECONDS = {"小": 3600, "钟": 3600, "分": 60, "秒": 1, "刻": 900}
_PARTS = {
    "凌晨": "am",
    "清晨": "am",
    "早上": "am",
    "早晨": "am",
    "上午": "am",
    "今早": "am",
    "明早": "am",
    "中午": "noon",
    "下午": "pm",
    "傍晚": "pm",
    "晚上": "night",
    "夜里": "night",
    "今晚": "night",
    "明晚": "night",
}
_CLOCK = re.compile(
    rf"(?P<part>{'|'.join(_PARTS)})?的?"
    r"(?:(?P<noon>正午)|(?P<midnight>午夜)|(?P<to>差(?P<missing>\d{1,2})分)?"
    r"(?P<hour>\d{1,2})(?:(?::(?P<colon>\d{2}))|点钟?整?"
    r"(?:(?P<half>半)|(?P<quarters>[13])刻|过?0?(?P<minute>\d{1,2})分?|(?P<short>差(?P<after>\d{1,2})分))?))"
)
_DAYS = {
    "大前天": -3,
    "前天": -2,
    "昨天": -1,
    "昨日": -1,
    "今天": 0,
    "今日": 0,
    "今早": 0,
    "今晚": 0,
}
_DAYS |= {"明天": 1, "明日": 1, "明早": 1, "明晚": 1, "后天": 2, "大后天": 3}
_DAY = re.compile(
    rf"(?P<day>{'|'.join(sorted(_DAYS, key=len, reverse=True))})"
    r"|(?P<number>\d{1,3})天(?P<side>后|前)"
    r"|(?P<next>下个?)?(?:这个?|本)?(?:星期|礼拜|周)(?P<weekday>[1-6日天7])"
)
_WEEK = "(?:星期|礼拜|周)"
_EVERY = re.compile(
    r"(?P<daily>每一?天|每日|天天|每个?(?=早上|早晨|清晨|上午|中午|下午|傍晚|晚上|夜里))"
    rf"|(?P<work>(?:每个?)?工作日|每?{_WEEK}1[到至]{_WEEK}?5)"
    r"|(?P<weekend>每个?周末)"
    rf"|每个?{_WEEK}(?P<named>[1-6日天7](?:[和、, ]*(?:每?个?{_WEEK})?[1-6日天7])*)"
)
_ANYWHERE = re.compile("")
_NOT_IN_CLOCK = re.compile(r"(?<![\d.差点])(?<!点过)")
"""Where a duration may begin: the quarter of an hour of "8点15分" is none."""
_PERCENT = re.compile(r"百分之(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) ?%")
_NUMBER = re.compile(r"(?<![\d.:{])\d+(?![\d.:])")
_ORDINAL = re.compile(r"第(\d+)[条个项则]?|最后1?[条个项则]|最新的?1?[条个项则]?")


def words(tokens: Sequence[str]) -> str:
    """The sentence on which everything here works: numbers in digits, characters unspaced."""
    joined = re.sub(r"(?<=[㐀-鿿]) | (?=[㐀-鿿])", "", " ".join(tokens))
    return numbers.chinese(joined)


def duration(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads "1小时20分钟", "半小时", "2分半钟": ``duration_s``."""
    at, seconds, last = start, 0.0, 10**9
    while (piece := _PIECE.match(text, at)) is not None:
        unit = _SECONDS[piece["unit"][0]]
        if unit >= last:
            break
        amount = float(piece["number"].replace("点", ".")) if piece["number"] else 0.5
        amount += 0.5 if piece["and_before"] or piece["and"] else 0
        seconds, last, at = seconds + amount * unit, unit, piece.end()
        if text[at : at + 1] in ("零", "又", "和"):
            at += 1
    whole = round(seconds)
    return (at, {"duration_s": whole}) if 0 < whole <= MAX_TIMER_S else None


def clock(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads a time of day, with the part of the day before it."""
    found = _CLOCK.match(text, start)
    if not found:
        return None
    half = _PARTS.get(found["part"] or "", "")
    if found["noon"] or found["midnight"]:
        hour, minute, half = (12 if found["noon"] else 0), 0, "24"
    else:
        hour = int(found["hour"])
        minute = 30 if found["half"] else int(found["colon"] or found["minute"] or 0)
        minute = 15 * int(found["quarters"]) if found["quarters"] else minute
        missing = found["missing"] or found["after"]
        if missing:
            hour, minute = (hour - 1 if hour > 1 else 12), 60 - int(missing)
    if half == "noon":
        half = "pm" if hour < 4 else "24"
    slots = clock_slots(hour, minute, half)
    return (found.end(), slots) if slots else None


def day(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads a day: ``days`` from today (absent for today), ``weekday`` and ``next``, or ``repeat``:
    the weekdays on which it is to be, Monday 0."""
    if every := _EVERY.match(text, start):
        return every.end(), {"repeat": _repeated(every)}
    found = _DAY.match(text, start)
    if not found:
        return None
    slots: dict[str, object] = {}
    if found["day"]:
        if _DAYS[found["day"]]:
            slots["days"] = _DAYS[found["day"]]
    elif found["number"]:
        slots["days"] = int(found["number"]) * (1 if found["side"] == "后" else -1)
    else:
        number = found["weekday"]
        slots["weekday"] = WEEKDAYS[6 if number in "日天7" else int(number) - 1]
        if found["next"]:
            slots["next"] = True
    return found.end(), slots


def _repeated(every: re.Match[str]) -> tuple[int, ...]:
    if every["named"]:
        numbers_ = re.findall("[1-6日天7]", every["named"])
        return tuple(sorted({6 if n in "日天7" else int(n) - 1 for n in numbers_}))
    return DAILY if every["daily"] else WORKDAYS if every["work"] else WEEKEND


def moment(text: str, start: int) -> tuple[int, Slots] | None:
    """Reads a time of day with or without a day before it ("明早7点")."""
    slots: dict[str, object] = {}
    at = start
    if first := day(text, start):
        # 明早 and 今晚 say the day and the part of the day at once.
        both = text[start : start + 2] in _PARTS
        at = start if both else first[0]
        slots |= first[1]
        if text[at : at + 1] == "的":
            at += 1
    time = clock(text, at)
    return (time[0], slots | dict(time[1])) if time else None


def _ordinal(text: str, start: int) -> tuple[int, Slots] | None:
    found = _ORDINAL.match(text, start)
    return (found.end(), {"number": int(found[1] or -1)}) if found else None


def _percent(text: str) -> Variant | None:
    found = _PERCENT.search(text)
    if not found or float(found[1] or found[2]) > 100:
        return None
    masked = f"{text[: found.start()]}{{percent}}{text[found.end() :]}"
    return Variant(masked, {"percent": round(float(found[1] or found[2]))})


def _number(text: str) -> Variant | None:
    found = _NUMBER.search(text)
    if not found or len(found[0]) > 4:
        return None
    masked = f"{text[: found.start()]}{{number}}{text[found.end() :]}"
    return Variant(masked, {"number": int(found[0])})


class Chinese:
    """The slot readers of one lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        names = "|".join(sorted(map(re.escape, lexicon.units), key=len, reverse=True)) or "(?!)"
        self._unit = re.compile(names)
        self._quantity = re.compile(
            rf"(?P<sign>负|零下|-)?(?P<number>\d+(?:[.点]\d+)?)个?(?P<half>半)?(?P<unit>{names})(?P<and>半)?"
        )
        places = "|".join(sorted(map(re.escape, lexicon.places), key=len, reverse=True)) or "(?!)"
        self._place = re.compile(places)

    def variants(self, text: str) -> Iterator[Variant]:
        """Every reading of ``text`` (from `words`) that has a slot, likeliest first."""
        timed = chain(
            text,
            lambda t: mask(t, "duration", _NOT_IN_CLOCK, duration),
            lambda t: mask(t, "moment", _ANYWHERE, moment),
            lambda t: mask(t, "day", _ANYWHERE, day),
            self.place,
            _percent,
        )
        if timed.text != text:
            yield timed
        elif numbered := _number(text):
            yield numbered
        if ordinal := mask(text, "ordinal", _ORDINAL, _ordinal):
            yield ordinal
        decimal = re.sub(r"(?<=\d)点(?=\d)", ".", text)
        if sum_ := expression(decimal, self._lexicon):
            yield sum_
        if measured := self._conversion(decimal):
            yield measured

    def place(self, text: str) -> Variant | None:
        """Masks a city: ``place`` as it was said."""
        found = self._place.search(text)
        if not found:
            return None
        masked = f"{text[: found.start()]}{{place}}{text[found.end() :]}"
        return Variant(masked, {"place": found[0]})

    def _conversion(self, text: str) -> Variant | None:
        quantity = self._quantity.search(text)
        if not quantity:
            return None
        value = float(quantity["number"]) + (0.5 if quantity["half"] or quantity["and"] else 0)
        rest = f"{text[: quantity.start()]}{{quantity}}{text[quantity.end() :]}"
        unit = self._unit.search(rest)
        if not unit:
            return None
        variant = Variant(
            f"{rest[: unit.start()]}{{unit}}{rest[unit.end() :]}",
            {
                "value": -value if quantity["sign"] else value,
                "from": self._lexicon.units[quantity["unit"]],
                "to": self._lexicon.units[unit[0]],
            },
        )
        fitting = conversion(variant)
        return Variant(variant.text, fitting) if fitting else None

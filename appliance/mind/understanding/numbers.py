"""Numbers in words, English and Chinese, to digits.

The libraries that do this lose the place of what they replace or do one language only; hassil's
own table (``unicode-rbnf``) formats but does not parse: the tests check this parser against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ONES = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
} | {"fourty": 40, "fourtyfive": 45}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FRACTIONS = {("half",): "5", ("quarter",): "25"}
ENGLISH_WORDS = frozenset({*_ONES, *_TENS, *_SCALES, "hundred", "point"})

_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "亿": 10**8, "萬": 10**4, "億": 10**8}
_CHINESE = re.compile("(?:(?![百千万]分之)[零〇一二两兩三四五六七八九十百千万亿萬億])+")


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit() and word.isascii()


def english(words: Sequence[str]) -> list[str]:
    """``words`` with every number in words as one word of digits: "twenty five" is "25"."""
    out: list[str] = []
    at = 0
    while at < len(words):
        number, end = _english_number(words, at)
        if number:
            number, end = _fraction(words, number, end)
            out.append(number)
            at = end
        else:
            out.append(words[at])
            at += 1
    return out


def _fraction(words: Sequence[str], number: str, end: int) -> tuple[str, int]:
    """Takes in "and a half", "and a quarter" after a whole number."""
    if tuple(words[end : end + 2]) == ("and", "a") and "." not in number:
        digits = _FRACTIONS.get(tuple(words[end + 2 : end + 3]))
        if digits:
            return f"{number}.{digits}", end + 3
    return number, end


def _english_number(words: Sequence[str], at: int) -> tuple[str, int]:
    """The number that begins at ``at`` and where it ends; empty when none does."""
    first = words[at]
    if first == "a" and at + 1 < len(words) and words[at + 1] in {"hundred", "thousand", "million"}:
        total, group, room, end = 0, 1, 1, at + 1
    elif _is_number(first):
        total, group, room, end = 0, None, 0, at + 1
        following = words[end] if end < len(words) else ""
        if following != "hundred" and following not in _SCALES:
            return first, end
        total_text = float(first)
        while end < len(words) and (words[end] == "hundred" or words[end] in _SCALES):
            total_text *= 100 if words[end] == "hundred" else _SCALES[words[end]]
            end += 1
        return f"{total_text:.10g}" if total_text % 1 else str(int(total_text)), end
    elif first in _ONES or first in _TENS:
        total, group, room, end = 0, 0, 100, at
    else:
        return "", at
    # ``room``: the next word must be below it, so that "seven thirty" stays two numbers.
    limit = 10**15
    while end < len(words):
        word = words[end]
        if word == "and" and room in (100, 1000) and end > at and end + 1 < len(words):
            following = words[end + 1]
            if words[end - 1] in {"hundred", *_SCALES} and (
                following in _ONES or following in _TENS
            ):
                end += 1
                continue
            break
        if word in _TENS and room >= 100:
            group, room = group + _TENS[word], 10
        elif word in _ONES and (_ONES[word] < room if room <= 10 else room >= 100):
            if room == 10 and _ONES[word] == 0:
                break
            group, room = group + _ONES[word], 1
        elif word == "hundred" and 0 < group < 100:
            group, room = group * 100, 100
        elif word in _SCALES and group and _SCALES[word] < limit:
            limit = _SCALES[word]
            total, group, room = total + group * limit, 0, 1000
        else:
            break
        end += 1
    text = str(total + group)
    if end + 1 < len(words) and words[end] == "point":
        digits = ""
        after = end + 1
        while after < len(words) and (
            _ONES.get(words[after], 10) < 10 or (words[after].isdigit() and words[after].isascii())
        ):
            digits += str(_ONES.get(words[after], words[after]))
            after += 1
        if digits:
            return f"{text}.{digits}", after
    return text, end


def chinese(text: str) -> str:
    """``text`` with every number in characters as digits: "二十五分钟" is "25分钟".

    The point of a decimal is left ("3点5"): it may be a clock's.
    """
    return _CHINESE.sub(lambda match: _chinese_number(match[0]), text)


def _chinese_number(characters: str) -> str:
    if len(characters) > 1 and all(c in _DIGITS for c in characters):
        return "".join(str(_DIGITS[c]) for c in characters)  # a year, a telephone number
    total = section = digit = 0
    last_unit = 1
    for c in characters:
        if c in _DIGITS:
            digit = _DIGITS[c]
            last_unit = 1 if digit == 0 else last_unit
        elif c in _UNITS:
            section += (digit or 1) * _UNITS[c]
            digit, last_unit = 0, _UNITS[c]
        else:
            total = (
                (total + section + digit) * _LARGE[c]
                if total < _LARGE[c]
                else (total + (section + digit) * _LARGE[c])
            )
            section, digit, last_unit = 0, 0, _LARGE[c]
    if digit and last_unit >= 100:
        digit *= last_unit // 10  # 三百五 is 350
    return str(total + section + digit)

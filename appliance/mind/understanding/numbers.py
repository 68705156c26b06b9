"""Numbers in words, English and Chinese, to digits.

The libraries that do this lose the place of what they replace or do one language only; hassil's
own table (``unicode-rbnf``) formats but does not parse: the tests check this parser against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BELOW_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
_TENS_WORDS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = {word: value for value, word in enumerate(_BELOW_TWENTY)}
_TENS = {word: 10 * value for value, word in enumerate(_TENS_WORDS, start=2)} | {"fourty": 40}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FRACTIONS = {"half": "5", "quarter": "25"}
_FIGURES = frozenset("0123456789")
ENGLISH_WORDS = frozenset({*_ONES, *_TENS, *_SCALES, "hundred", "point"})

_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "亿": 10**8, "萬": 10**4, "億": 10**8}
_CHINESE = re.compile("(?:(?![百千万]分之)[零〇一二两兩三四五六七八九十百千万亿萬億])+")


def in_figures(text: str, language: str) -> str:
    """The text with its numbers in figures, in lower case."""
    if language == "zh":
        return chinese(text)
    return " ".join(english(text.casefold().split()))


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
        digits = _FRACTIONS.get(words[end + 2]) if end + 2 < len(words) else None
        if digits:
            return f"{number}.{digits}", end + 3
    return number, end


def _english_number(words: Sequence[str], at: int) -> tuple[str, int]:
    """The number that begins at ``at`` and where it ends; empty when none does."""
    first = words[at]
    if _is_number(first):
        return _scaled(words, at)
    if first == "a" and words[at + 1 : at + 2] and words[at + 1] in {"hundred", *_SCALES}:
        value, end = _whole(words, at + 1, group=1)
    elif first in _ONES or first in _TENS:
        value, end = _whole(words, at, group=0)
    else:
        return "", at
    return _decimals(words, str(value), end)


def _scaled(words: Sequence[str], at: int) -> tuple[str, int]:
    """Digits with a scale behind them: "2 million"."""
    value, end = float(words[at]), at + 1
    while end < len(words) and (words[end] == "hundred" or words[end] in _SCALES) and value < 1e15:
        value *= _SCALES.get(words[end], 100)
        end += 1
    if end == at + 1:
        return words[at], end
    return f"{value:.10g}" if value % 1 else str(int(value)), end


def _whole(words: Sequence[str], at: int, group: int) -> tuple[int, int]:
    """A whole number in words. ``group``: what goes before a first "hundred" or "thousand"."""
    total, limit = 0, 10**15
    # The next word must be below ``room``, so that "seven thirty" stays two numbers.
    room, end = (1, at) if group else (100, at)
    while end < len(words):
        word = words[end]
        if word in _TENS and room >= 100:
            group, room = group + _TENS[word], 10
        elif word in _ONES and (room >= 100 or (room == 10 and 0 < _ONES[word] < 10)):
            group, room = group + _ONES[word], 1
        elif word == "hundred" and 0 < group < 100:
            group, room = group * 100, 100
        elif word in _SCALES and group and _SCALES[word] < limit:
            limit = _SCALES[word]
            total, group, room = total + group * limit, 0, 1000
        elif not (word == "and" and _goes_on(words, end) and end > at):
            break
        end += 1
    return total + group, end


def _goes_on(words: Sequence[str], at: int) -> bool:
    """Whether the "and" at ``at`` is inside a number: "one hundred and five"."""
    after = words[at + 1 : at + 2]
    return words[at - 1] in {"hundred", *_SCALES} and bool(
        after and (after[0] in _ONES or after[0] in _TENS)
    )


def _decimals(words: Sequence[str], whole: str, end: int) -> tuple[str, int]:
    """Takes in "point one four"."""
    digits, at = "", end + 1
    if words[end : end + 1] == ["point"]:
        while at < len(words) and (_ONES.get(words[at], 10) < 10 or words[at] in _FIGURES):
            digits += str(_ONES.get(words[at], words[at]))
            at += 1
    return (f"{whole}.{digits}", at) if digits else (whole, end)


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

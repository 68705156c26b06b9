"""What the slot readers of all languages share: a sentence with its slots taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appliance.mind.understanding.arithmetic import MAX_EXPRESSION, calculate
from appliance.mind.understanding.lexicon import Lexicon
from appliance.mind.understanding.units import UNITS

Slots = Mapping[str, object]
MAX_TIMER_S = 7 * 86400
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Variant:
    """One reading of a sentence: ``text`` with ``{slot}`` in the place of what ``slots`` holds."""

    text: str
    slots: Slots = field(default_factory=dict)


Reader = Callable[[str, int], "tuple[int, Slots] | None"]
"""Reads a slot that begins at an offset: where it ends, and what it says."""


def mask(text: str, name: str, pattern: re.Pattern[str], read: Reader) -> Variant | None:
    """``text`` with its first ``name`` masked, where ``pattern`` begins and ``read`` agrees.

    One that says something goes before one that does not: of "is it Friday today" it is Friday.
    """
    empty: Variant | None = None
    for match in pattern.finditer(text):
        found = read(text, match.start())
        if found:
            end, slots = found
            variant = Variant(f"{text[: match.start()]}{{{name}}}{text[end:]}", slots)
            if slots:
                return variant
            empty = empty or variant
    return empty


def chain(text: str, *maskers: Callable[[str], Variant | None]) -> Variant:
    """Applies one masker after the other, each to what the one before left."""
    slots: dict[str, object] = {}
    for masker in maskers:
        variant = masker(text)
        if variant:
            text = variant.text
            slots |= variant.slots
    return Variant(text, slots)


def clock_slots(hour: int, minute: int, half: str) -> Slots | None:
    """The slots of a time of day; ``half`` is ``am``, ``pm``, ``night``, ``24`` or empty (unsaid).

    ``time`` is HH:MM on 24 hours; ``either_half`` says that twelve hours later would do as well.
    """
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        return None
    if half == "night":  # ten at night, but two at night
        half = "pm" if 6 <= hour < 12 else "am"
    if half == "pm" and hour < 12:
        hour += 12
    elif half == "am" and hour == 12:
        hour = 0
    time = f"{hour % 24:02d}:{minute:02d}"
    return {"time": time} if half or not 1 <= hour <= 12 else {"time": time, "either_half": True}


_SUM = re.compile(r"[-(\d]|sqrt")
_ARITHMETIC = re.compile(r"(?:sqrt|[-+*/().\d\s])+")


def expression(text: str, lexicon: Lexicon) -> Variant | None:
    """Masks a sum that contains at least one operator.

    The slots are ``expression`` (for `calculate`) and ``result``, None where there is none.
    """
    for pattern, replacement in lexicon.arithmetic:
        text = re.sub(pattern, replacement, text)

    def read(text: str, start: int) -> tuple[int, Slots] | None:
        found = _ARITHMETIC.match(text, start)
        if not found:
            return None
        sum_ = found[0].rstrip(" +-*/.(")
        if len(sum_) > MAX_EXPRESSION or not re.search(r"\d\s*(?:[-+*/])|sqrt", sum_):
            return None
        compact = re.sub(r"\s+", " ", sum_).strip()
        if re.search(r"\d \d|\d \.|\. \d", compact) or not _is_arithmetic(compact):
            return None
        return start + len(sum_), {"expression": compact, "result": calculate(compact)}

    return mask(text, "expression", _SUM, read)


def _is_arithmetic(expression: str) -> bool:
    try:
        compile(expression, "", "eval", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def conversion(variant: Variant) -> Slots | None:
    """The slots of a conversion: ``value``, ``from``, ``to``; None when the units do not fit."""
    source, target = str(variant.slots.get("from")), str(variant.slots.get("to"))
    if source not in UNITS or target not in UNITS or source == target:
        return None
    dimensions = {UNITS[source].dimension, UNITS[target].dimension}
    if dimensions == {"mass", "volume"}:  # the ounces of a cup are fluid ones
        fluid = {"ounce": "fluid ounce"}
        source, target = fluid.get(source, source), fluid.get(target, target)
        dimensions = {UNITS[source].dimension, UNITS[target].dimension}
    return {**variant.slots, "from": source, "to": target} if len(dimensions) == 1 else None

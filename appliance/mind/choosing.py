"""Which of several the user means, after we have asked. Pure."""

from __future__ import annotations

import re

from appliance.mind.characters import HAN
from appliance.mind.sayings import phrase
from appliance.mind.skills import Act, Choices, Outcome, Plan
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import in_figures

_MAX_LENGTH = 60
"""Characters: what is longer has passed on to something else."""
_WORD = re.compile(rf"[{HAN}]|[^\W{HAN}]+")
_LIGHT_WORDS = (
    "the a an with about of for to on at please that this i mean meant just my"
    " cancel delete forget timer alarm reminder"
)
_LIGHT = frozenset((*_LIGHT_WORDS.split(), *"那这个的是请把取消删除忘掉计时器闹钟提醒一"))
_ALL = re.compile(
    r"(?:(?:cancel|delete|forget) )?(?:all|both|everything|every one)(?: of (?:them|those|these))?"
    r"|全部|所有|都要?|两个都?|全都",
    re.IGNORECASE,
)
_NONE = re.compile(
    r"no|nope|neither|none|none of (?:them|those|these)|neither of them|no thanks?(?: you)?"
    r"|都不要?|都不是|不用了?|不要了?|不是|没有",
    re.IGNORECASE,
)
_ONE = re.compile(
    r"\bones?$|\bones?(?= (?:with|about|for|of|at|on|in|that|which|called)\b)", re.IGNORECASE
)
_ORDER = re.compile(
    r"(?:the )?(?:(?P<n>first|second|third|fourth|fifth|[1-5](?:st|nd|rd|th))|(?P<last>last))"
    r"(?: one)?"
    r"|第(?P<zh>[1-5一二三四五])[个条]?|(?P<last_zh>最后一?[个条])",
    re.IGNORECASE,
)
_NUMBERS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5} | {
    character: number for number, character in enumerate("一二三四五", 1)
}


def chosen_of(choices: Choices, text: str, language: Language) -> Plan | None:
    """What is done for the one that ``text`` names, by its place or by words of its label alone.

    None where it names none of them, or more than one.
    """
    said = text.strip(" ,.!?，。！？")
    if not choices or not said or len(said) > _MAX_LENGTH:
        return None
    if _ALL.fullmatch(said):
        return Plan(act=lambda: _together([choice.act for choice in choices], language))
    if _NONE.fullmatch(said):
        return Plan(phrase("not_done", language))
    if order := _ORDER.fullmatch(said):
        last = order["last"] or order["last_zh"]
        which = (order["n"] or order["zh"] or "").lower()
        number = len(choices) if last else _NUMBERS.get(which) or int(which[0])
        return Plan(act=choices[number - 1].act) if number <= len(choices) else None
    wanted = _words(_ONE.sub("", said), language) - _LIGHT
    found = [choice for choice in choices if wanted and wanted <= _words(choice.label, language)]
    return Plan(act=found[0].act) if len(found) == 1 else None


def _words(text: str, language: Language) -> set[str]:
    normal = in_figures(text, language)
    return {word.rstrip("s") or word for word in _WORD.findall(normal)}


def _together(acts: list[Act], language: Language) -> Outcome:
    outcomes = [act() for act in acts]
    said = ("" if language == "zh" else " ").join(outcome.reply for outcome in outcomes)
    return Outcome(said, forgotten=any(outcome.forgotten for outcome in outcomes))

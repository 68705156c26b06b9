"""What the last turn was about, so that "and in Italy?" or "make it twenty" can be understood.

Only where it is sure: everything else is left as it was said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.mind.understanding.arithmetic import spoken
from appliance.mind.understanding.understanding import Understanding, Understood

FOLLOW_UP_CONFIDENCE = 0.9
MAX_FOLLOW_UP = 60
"""Characters; what is longer stands for itself."""

_LEAD = re.compile(
    r"^(?:and|so|ok|okay|then|no|oh|now|or|well|actually|sorry)\b[ ,]*"
    r"|^(?:what|how) about\b|^(?:make|change) (?:it|that)(?: to)?\b|^set it to\b"
    r"|^(?:那么?|那就|改成|改为|换成|还有|再?来)",
    re.IGNORECASE,
)
_PREPOSITION = re.compile(
    r"^(?:for|in|on|at|to|of|by|from|with)\b|^(?:the|a|an)\b|^在", re.IGNORECASE
)
_CHANGE = re.compile(
    r"^(?:no|actually|sorry|oh)?[ ,]*(?:make|change|set) (?:it|that)\b|改成|改为|换成", re.I
)
_OPERATOR = re.compile(
    r"^(?:and |then |now )?(?:plus|minus|times|divided by|multiplied by|squared|cubed|over"
    r"|to the power|[-+*/×÷])|^(?:再|然后)?(?:加上?|减去?|乘以?|除以)",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"(?P<preposition>\b(?:of|in|for|to|from|on|about|at)) (?P<entity>(?:the )?"
    r"[A-Z][\w'’-]*(?: (?:of |the )?[A-Z][\w'’-]*){0,3})[?.!]*$"
)
_NAME = re.compile(r"(?:the )?[A-Z][\w'’-]*(?: (?:of |the )?[A-Z][\w'’-]*){0,3}")
_CHINESE_ENTITY = re.compile(r"^(?P<entity>[㐀-鿿]{2,4}?)(?P<rest>(?:的|有多少|现在).+)$")
_CHINESE_NAME = re.compile(r"^(?:那么?)?(?P<name>[㐀-鿿]{2,4})呢[？?]?$")

_SAME_SLOTS: Mapping[str, tuple[str, ...]] = {
    "timer_set": ("duration_s",),
    "alarm_set": ("time",),
    "date": ("days", "weekday"),
    "time_now": ("place",),
    "volume_set": ("percent",),
    "unknowable": ("days", "weekday", "place"),
}
"""Of an intent: the slots of which a follow-up must bring one."""
_KEPT = ("name", "reminder", "days", "weekday", "repeat")
"""Slots of a timer or alarm that stay when its time is given or changed."""
_ASKED = frozenset({"timer_set", "alarm_set"})
"""Where such a slot is missing the user was asked for it, and the bare answer is a follow-up."""


@dataclass(frozen=True)
class Topic:
    """The last turn; each turn makes the next one: ``topic = topic.after(text, understood)``."""

    text: str = ""
    """The question as it was asked, or as it was completed."""
    understood: Understood | None = None

    def after(self, text: str, understood: Understood | None) -> Topic:
        """The topic once ``text`` was heard; thanks, volume and the like do not change it."""
        if understood and understood.intent not in {*_SAME_SLOTS, "calculate", "convert"}:
            return self
        return replace(self, text=text, understood=understood)

    def follow(self, text: str, understanding: Understanding) -> Understood | str | None:
        """What an elliptic ``text`` means after the last turn.

        Returns:
            An intent with its slots, or the whole question for the language model, or None when
            ``text`` is not surely a follow-up.
        """
        said = text.strip()
        if not said or len(said) > MAX_FOLLOW_UP or not self.text:
            return None
        if self.understood is None:
            return self._question(said)
        if self.understood.intent in ("calculate", "convert"):
            return self._sum(said, understanding)
        return self._slots(said, self.understood, understanding)

    def _slots(
        self, said: str, last: Understood, understanding: Understanding
    ) -> Understood | None:
        fragment, led = _fragment(said)
        wanted = _SAME_SLOTS[last.intent]
        asked = last.intent in _ASKED and not any(name in last.slots for name in wanted)
        if not (led or asked):
            return None
        for variant in understanding.variants(fragment):
            rest = re.sub(r"\{(\w+)\}", "", variant.text)
            if _PREPOSITION.sub("", rest).strip(" ?？呢吧的了请in"):
                continue
            slots = dict(variant.slots)
            if asked and "reminder" in last.slots and "duration_s" in slots:
                task = {k: v for k, v in last.slots.items() if k in ("name", "reminder")}
                slots = {**task, **slots}
                return Understood("timer_set", slots, FOLLOW_UP_CONFIDENCE, last.language, said)
            number = slots.get("number")
            if (
                last.intent == "timer_set"
                and isinstance(number, int)
                and not slots.get("duration_s")
            ):
                before = last.slots.get("duration_s", 60)
                unit = 3600 if isinstance(before, int) and before % 3600 == 0 else 60
                unit = unit if isinstance(before, int) and before % 60 == 0 else 1
                slots = {"duration_s": number * unit}
            if last.intent == "volume_set" and isinstance(number, int) and number <= 100:
                slots = {"percent": number}
            today = last.intent in ("date", "unknowable") and "{day}" in variant.text
            if any(name in slots for name in wanted) or today:
                kept: dict[str, object] = {}
                if last.intent == "unknowable":
                    slots = {"kind": last.slots["kind"]}
                changes = bool(_CHANGE.search(said)) and last.intent in ("timer_set", "alarm_set")
                if changes or asked:
                    kept = {k: v for k, v in last.slots.items() if k in _KEPT}
                if changes and not asked:
                    kept["replace"] = True
                return replace(
                    last, slots={**kept, **slots}, text=said, confidence=FOLLOW_UP_CONFIDENCE
                )
        return None

    def _sum(self, said: str, understanding: Understanding) -> Understood | None:
        assert self.understood is not None
        result = self.understood.slots.get("result")
        if isinstance(result, int | float) and _OPERATOR.match(said):
            operation = re.sub(r"^(?:and|then|now|再|然后)\s*", "", said, flags=re.IGNORECASE)
            found = understanding.understand(f"{spoken(result)} {operation}")
            if found and found.intent == "calculate":
                return replace(found, text=said)
        if self.understood.intent == "convert":
            fragment, led = _fragment(said)
            value, source = self.understood.slots["value"], self.understood.slots["from"]
            if led:
                found = understanding.understand(f"{value} {source} in {fragment}")
                if found and found.intent == "convert" and found.slots["from"] == source:
                    return replace(found, text=said)
        return None

    def _question(self, said: str) -> str | None:
        """The last question with its one entity exchanged."""
        if chinese := _CHINESE_NAME.match(said):
            last = _CHINESE_ENTITY.match(self.text)
            return f"{chinese['name']}{last['rest']}" if last else None
        fragment, led = _fragment(said)
        last = _ENTITY.search(self.text.strip())
        if not led or not last:
            return None
        name = fragment.rstrip(" ?.!")
        if not _NAME.fullmatch(name):
            return None
        if len(_NAME.findall(self.text[1 : last.start()])) > 0:
            return None  # a second name: which one is meant is not sure
        return f"{self.text.strip()[: last.start()]}{last['preposition']} {name}?"


def _fragment(said: str) -> tuple[str, bool]:
    """``said`` without "and", "what about" and a preposition; and whether anything was there."""
    fragment = said.strip()
    led = fragment.endswith("呢？") or fragment.rstrip("?？").endswith("呢")
    while (lead := _LEAD.match(fragment)) is not None:
        fragment, led = fragment[lead.end() :].lstrip(" ,，"), True
    preposition = re.match(r"(?:for|in|on|at|to|of|by|from|with)\b ", fragment, re.IGNORECASE)
    if preposition:
        fragment, led = fragment[preposition.end() :], True
    return fragment.rstrip("?？。. ").removesuffix("呢"), led

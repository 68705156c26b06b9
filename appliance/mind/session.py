"""A conversation and the questions in it, as far as mind must know them. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from appliance.mind.choosing import chosen_of
from appliance.mind.sayings import phrase
from appliance.mind.skills import Act, Choices, Outcome, Plan, Voice
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import Topic, Understood

_SHORT_ANSWER = 3
"""Words, or twice as many Chinese characters: who says more has passed on to something else."""
_SAID = 32
"""Exchanges: more than llm is told of word by word."""
_YES = re.compile(
    r"(?:(?:yes|yeah|yep|yup|sure|ok|okay|please|do it|do that|do|go ahead|of course|correct|right"
    r"|that's right|definitely|absolutely|对|是|是的|好|好的|可以|当然|行|没错|确定)[\s,.!]*)+"
)
_NAMES_SOMETHING = re.compile(r"(?<!^)\b[A-Z][a-z]+|\d")
_STANDS_ALONE_WORDS = 7
"""A question as long as this hardly hangs on what was said before it."""
_SILENCE_NS = 15 * 60 * 1_000_000_000
"""After it a conversation is over: nothing is repeated or followed up."""


@dataclass(frozen=True)
class Open:
    """A question of ours that is not answered yet."""

    ask: Plan | None = None
    """What a yes would do."""
    choices: Choices = ()
    """Which of these is meant."""

    def answered(self, text: str, language: Language) -> Plan | None:
        """What is to be done if this is an answer; None where it is something else."""
        if chosen := chosen_of(self.choices, text, language):
            return chosen
        if self.ask is None:
            return None
        if agrees(text):
            return self.ask
        return Plan(phrase("not_done", language)) if is_short(text, language) else None


@dataclass
class Asked:
    """A question that was considered and may be meant."""

    text: str
    question: str
    """As llm is asked."""
    understood: Understood | None
    plan: Plan
    facts: str
    in_dialogue: bool
    language: Language
    answers: bool = False
    """Whether it answers what we asked."""
    open: Open = field(default_factory=Open)
    """What we had asked before it."""
    turn_id: str = ""
    voice: Voice = field(default_factory=Voice)
    """How answers were spoken before anything was done for it."""
    call: str = ""
    """What llm called for."""
    acts: bool = False
    """Whether something is done for it, or taken back."""
    outcome: Outcome | None = None
    """What was done; None before."""

    def wants_the_same(self, other: Asked) -> bool:
        """Whether both want one thing: what was added in between said nothing new."""
        if self.call or other.call:
            return self.call == other.call
        if self.answers and other.answers:
            return self.plan is other.plan
        mine, others = self.understood, other.understood
        return (
            mine is not None
            and others is not None
            and (mine.intent, dict(mine.slots)) == (others.intent, dict(others.slots))
        )


@dataclass
class Session:
    """What is known of a conversation."""

    topic: Topic = field(default_factory=Topic)
    voice: Voice = field(default_factory=Voice)
    last_reply: str = ""
    active_ns: int = 0
    """When a turn last went on in it."""
    open: Open = field(default_factory=Open)
    """What we have asked."""
    open_until_ns: int = 0
    """Later than this a yes is meant for somebody else."""
    undo: Callable[[], object] | None = None
    """Takes back what the last turn has done."""
    committed: Asked | None = None
    """The question whose answer is being given."""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_SAID))
    """What llm was told last, in lower case."""

    def mentioned(self, thing: str) -> bool:
        """Whether llm may know of it from the conversation."""
        return any(thing in text for text in self.said)

    def before(self, turn_id: str) -> Asked | None:
        """What was committed already in a turn that goes on after all."""
        same = self.committed is not None and turn_id and self.committed.turn_id == turn_id
        return self.committed if same else None

    def is_over(self, now_ns: int) -> bool:
        """Whether it was silent for so long that what is said now begins a new conversation."""
        return now_ns - self.active_ns > _SILENCE_NS


def agrees(text: str) -> bool:
    """Whether this says yes to what was asked."""
    return _YES.fullmatch(text.casefold().strip(" ,.!?，。！？")) is not None


def is_short(text: str, language: Language) -> bool:
    """Whether this may be an answer to what was asked, rather than something else."""
    if language == "zh":
        return len(text) < 2 * _SHORT_ANSWER
    return len(text.split()) < _SHORT_ANSWER


def stands_alone(question: str) -> bool:
    """Whether earlier turns hardly matter to a question: it names what it is about."""
    words = question.split()
    if len(words) < 4:
        return False
    return len(words) >= _STANDS_ALONE_WORDS or bool(_NAMES_SOMETHING.search(question))


def done_once(asked: Asked, act: Act | None, before: Asked | None) -> Outcome:
    """Do what is meant, in place of what was done in the same turn before the user went on."""
    done = before.outcome if before else None
    if before is not None and done is not None and asked.wants_the_same(before):
        asked.outcome = done
        return done
    if done is not None and done.undo is not None:
        done.undo()
    outcome = act() if act else Outcome(asked.plan.reply)
    if done is not None and done.volume_percent is not None and outcome.volume_percent is None:
        outcome = replace(outcome, volume_percent=asked.voice.volume_percent)
    if done is not None and done.speed is not None and outcome.speed is None:
        outcome = replace(outcome, speed=asked.voice.speed)
    asked.outcome = outcome
    return outcome

"""Facts: remembered, forgotten and told."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from appliance.mind.memory import Fact, Forgotten, WhichOne
from appliance.mind.perspective import for_speech
from appliance.mind.sayings import phrase
from appliance.mind.skills.plans import Choice, Outcome, Plan, Said, Skills, kept

_TOLD = 3
"""Facts that are told at once."""


def remember(skills: Skills, said: Said) -> Plan:
    """Keep what was said."""
    memory, language, text = skills.memory, said.language, said.text("text")
    if memory is None:
        return Plan(phrase("memory_off", language))

    def act() -> Outcome:
        fact = memory.remember(text, skills.who).fact
        reply = phrase("remembered", language, text=for_speech(fact.text))
        return Outcome(reply, undo=lambda: memory.forget_these([fact.id]))

    return Plan(phrase("remembered", language, text=for_speech(text)), kept(act, language))


def forget(skills: Skills, said: Said) -> Plan:
    """Forget one fact; or everything, after a yes."""
    memory, language = skills.memory, said.language
    if memory is None:
        return Plan(phrase("memory_off", language))

    def everything() -> Outcome:
        memory.erase(skills.who)
        return Outcome(phrase("all_forgotten", language), forgotten=True)

    def this(fact: Fact) -> Outcome:
        memory.forget_these([fact.id])
        told = for_speech(fact.text)
        return Outcome(phrase("forgotten", language, text=told), forgotten=True)

    def which(facts: Sequence[Fact]) -> Outcome:
        told = " ".join(for_speech(fact.text) for fact in facts)
        choices = (
            Choice(for_speech(fact.text), kept(functools.partial(this, fact), language))
            for fact in facts
        )
        told = told.rstrip(".。")
        return Outcome(phrase("which_fact", language, text=told), choices=tuple(choices))

    def one() -> Outcome:
        found = memory.forget(said.text("text"), skills.who)
        if isinstance(found, Forgotten):
            told = " ".join(for_speech(fact.text) for fact in found.facts[:_TOLD])
            return Outcome(phrase("forgotten", language, text=told), forgotten=True)
        if isinstance(found, WhichOne):
            return which(found.facts[:_TOLD])
        return Outcome(phrase("no_such_fact", language))

    if not said.slots.get("all"):
        return Plan(act=kept(one, language))
    question = phrase("confirm_forget", language)
    erase = Plan(act=kept(everything, language))
    return Plan(question, lambda: Outcome(question, ask=erase))


def recall(skills: Skills, said: Said) -> Plan:
    """Tell what is known, of something or at all."""
    memory, language, about = skills.memory, said.language, said.text("text")
    if memory is None:
        return Plan(phrase("memory_off", language))
    facts = memory.relevant(about, skills.who) if about else memory.about(skills.who)
    if not facts:
        return Plan(phrase("no_such_fact" if about else "no_facts", language))
    told = " ".join(for_speech(fact.text) for fact in facts[:_TOLD])
    if len(facts) > _TOLD:
        return Plan(phrase("more_facts", language, text=told, count=len(facts) - _TOLD))
    return Plan(told)

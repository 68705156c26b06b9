"""What becomes of a question before any language model is asked. Pure: no bus, no thread.

Asked for each transcript, also for those in pauses that may not be the end of the turn: so
considering changes nothing. What is to be done, remembered or taken as the topic waits for the
turn's `Commit`.
"""

from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from appliance.messages import LOCAL_SESSION, Commit, Consider, Considered, TurnRecord
from appliance.mind.answering import asks_for_own, fits
from appliance.mind.cache import CachedAnswer, CacheKey, ResponseCache, is_lasting, normalise
from appliance.mind.memory import Fact, Memory, Who, for_model
from appliance.mind.perspective import for_speech
from appliance.mind.recall import is_personal
from appliance.mind.sayings import phrase
from appliance.mind.session import Asked, Open, Session, done_once, stands_alone
from appliance.mind.skills import Act, Outcome, Plan, Skills, Voice, names_running, plan_of
from appliance.mind.tools import Registry, Tool, about, offer, parse
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import (
    LAST_RESORT,
    Topic,
    Understanding,
    Understood,
    language_of,
)

_REMEMBERED = 32
"""Questions in the air at once, of all sessions: more than are ever asked."""
_ASK_NS = 45_000_000_000
"""From a deed that asks to the answer: to say the question, and to think about it."""
_RECALLED = 0.9
"""Confidence in a fact that answers a question."""
_OF_CLOCKS = frozenset({"alarm_list", "timer_list", "timer_left"})
_NAMES_CLOCK = re.compile(
    r"\b(?:alarm|timer|reminder|countdown)s?\b|闹钟|计时|定时|倒计时|提醒"
    r"|\b(?:today|tonight|tomorrow|\w+day)\b|今天|今晚|明天|明早|星期|周[一二三四五六日]",
    re.IGNORECASE,
)
"""What is set is meant, not what is usual."""


@dataclass
class Mind:
    """The sessions' topics, the memory, the cache and the skills.

    Args:
        skills: what can be done without llm.
        understandings: by language.
        memory: None when it is switched off.
        who: in whose name facts are kept.
        cache: of llm's answers.
        persona: what else llm's answers depend on.
        model: that writes the answers.
        registry: of the tools that llm may call.
        permissions: of those tools.
    """

    skills: Skills
    understandings: Mapping[str, Understanding]
    memory: Memory | None
    who: Who
    cache: ResponseCache
    persona: str
    model: str
    registry: Registry
    permissions: Sequence[str] = ()
    grammar: Callable[[Iterable[Tool[Any]]], str] = lambda _tools: ""
    """Of an answer that may call some tools."""
    clock_ns: Callable[[], int] = time.monotonic_ns
    _sessions: dict[str, Session] = field(default_factory=dict)
    _asked: OrderedDict[tuple[str, str], Asked] = field(default_factory=OrderedDict)

    def session(self, session_id: str) -> Session:
        """What is known of a conversation."""
        return self._sessions.setdefault(session_id, Session())

    def voices(self) -> list[tuple[str, Voice]]:
        """How answers are to be spoken, by session."""
        self.session(LOCAL_SESSION)
        return [(session_id, session.voice) for session_id, session in self._sessions.items()]

    def offer(
        self,
        tools: Iterable[Tool[Any]],
        grammar: Callable[[Iterable[Tool[Any]]], str],
    ) -> None:
        """Let llm call these tools of other programs where a question is about them.

        Raises:
            ToolError: a name is taken.
        """
        self.registry.add(tools)
        self.permissions = tuple(dict.fromkeys((*self.permissions, *(t.permission for t in tools))))
        self.grammar = grammar

    def forget_session(self, session_id: str) -> None:
        """The conversation is over."""
        self._sessions.pop(session_id, None)
        for key in [key for key in self._asked if key[0] == session_id]:
            del self._asked[key]

    def consider(self, message: Consider) -> Considered:
        """What can be said of a question at once. Changes nothing."""
        session = self.session(message.session_id)
        asked = self._read(session, message)
        considered = self._considered(asked, message)
        self._asked[message.session_id, message.request_id] = asked
        while len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return considered

    def _read(self, session: Session, message: Consider) -> Asked:
        """What is meant, as if nothing had been done yet in the same turn."""
        before = session.before(message.turn_id)
        voice = before.voice if before else session.voice
        if before is not None:
            ours = before.open
        else:
            ours = session.open if self.clock_ns() < session.open_until_ns else Open()
        if session.is_over(self.clock_ns()):
            session = replace(session, topic=Topic(), last_reply="")
        asked = self._understand(session, message, voice, ours)
        asked.turn_id, asked.voice, asked.open = message.turn_id, voice, ours
        return asked

    def _understand(self, session: Session, message: Consider, voice: Voice, ours: Open) -> Asked:
        text = message.text
        language: Language = "zh" if language_of(text) == "zh" else "en"
        if (answered := ours.answered(text, language)) is not None:
            return Asked(text, text, None, answered, "", False, language, answers=True)
        understanding = self.understandings.get(language)
        understood = understanding.understand(text) if understanding else None
        question = text
        if understood is None and understanding is not None:
            followed = session.topic.follow(text, understanding)
            if isinstance(followed, str):
                question = followed
            else:
                understood = followed
        if understood is None and (name := names_running(self.skills, text)):
            understood = Understood("timer_left", {"name": name}, _RECALLED, language, text)
        plan = Plan()
        if understood is not None:
            found = plan_of(self.skills, understood, voice, session.last_reply, session.undo)
            plan, understood = (found, understood) if found else (plan, None)
        last_resort = understood is not None and understood.intent in LAST_RESORT
        if last_resort and self._offered(question):
            plan, understood, last_resort = Plan(), None, False
        fact = None
        open_to_facts = understood is None or last_resort or _is_habit(understood, question)
        if open_to_facts and self.memory is not None:
            fact = self.memory.answer(question, self.who)
        if fact is not None:
            understood = Understood("recall", {}, _RECALLED, language, text)
            plan = Plan(for_speech(fact.text))
        told: Sequence[Fact] = ()
        if understood is None and self.memory is not None:
            told = self.memory.relevant(question, self.who)
        own = asks_for_own(question) if understood is None else ""
        known = any(fits(question, one.text) for one in told)
        if own and not known and not session.mentioned(own):
            understood = Understood("recall", {}, _RECALLED, language, text)
            plan = Plan(phrase("not_told", language))
        facts = "" if understood else for_model(told)
        return Asked(text, question, understood, plan, facts, message.in_dialogue, language)

    def _considered(self, asked: Asked, message: Consider) -> Considered:
        considered = Considered(
            session_id=message.session_id, request_id=message.request_id, language=asked.language
        )
        intent = "confirm" if asked.answers else asked.understood.intent if asked.understood else ""
        if intent:
            confidence = asked.understood.confidence if asked.understood else 1.0
            return _with(
                considered,
                reply=asked.plan.reply,
                acts=asked.plan.act is not None,
                intent=intent,
                confidence=confidence,
            )
        if self._may_be_cached(asked):
            cached = self.cache.get(self._key(asked))
            if cached is not None:
                return _with(considered, reply=cached.text, intent="cache", confidence=1.0)
        tools = self._offered(asked.question)
        facts = asked.facts
        if tools:
            facts = "\n".join(filter(None, (facts, offer(tools, asked.question))))
        return _with(
            considered,
            question=asked.question if asked.question != asked.text else "",
            facts=facts,
            grammar=self.grammar(tools) if tools else "",
        )

    def commit(self, message: Commit) -> Act | None:
        """The turn is over: what is to be done now, where waiting for the disk holds nobody up."""
        asked = self._asked.pop((message.session_id, message.request_id), None)
        if asked is None:
            return None
        session = self.session(message.session_id)
        before, session.committed = session.before(message.turn_id), asked
        session.open, session.undo = Open(), None
        topic = Topic() if session.is_over(self.clock_ns()) else session.topic
        session.topic = topic.after(asked.question, asked.understood)
        session.active_ns = self.clock_ns()
        asked.call = message.call
        act = asked.plan.act
        if message.call:
            act = functools.partial(self._call, message.call, asked.language)
        if act is None and (before is None or not before.acts):
            return None
        asked.acts = True
        return functools.partial(done_once, asked, act, before)

    def done(self, session_id: str, outcome: Outcome) -> None:
        """An act has ended."""
        if outcome.forgotten:
            self.cache.forget()
        session = self._sessions.get(session_id)
        if session is None:  # closed meanwhile; who comes next was asked nothing
            return
        session.open = Open(outcome.ask, outcome.choices)
        session.open_until_ns = self.clock_ns() + _ASK_NS
        session.undo = outcome.undo
        session.voice = outcome.voice(session.voice)

    def heard(self, record: TurnRecord) -> None:
        """A turn is over: what was said can be repeated, and perhaps given again."""
        if "session_closed" in record.marks:  # who comes next must not hear it
            self.forget_session(record.session_id)
            return
        session = self.session(record.session_id)
        session.active_ns = self.clock_ns()
        asked = session.committed
        if asked is None or asked.turn_id in ("", record.turn_id):  # else another turn has begun
            session.committed = None
        if record.reply:
            session.last_reply = record.reply
        if asked is None or record.outcome != "answered" or record.transcript != asked.text:
            return
        from_llm = asked.understood is None and not asked.answers
        if from_llm:
            session.said.append(f"{asked.text} {record.reply}".lower())
        if from_llm and "cache" not in record.marks and not _went_wrong(record):
            self.cache.put(
                self._key(asked),
                CachedAnswer(record.reply),
                in_dialogue=asked.in_dialogue and not stands_alone(asked.text),
                has_memory=bool(asked.facts),
            )

    def _may_be_cached(self, asked: Asked) -> bool:
        return is_lasting(
            asked.text,
            in_dialogue=asked.in_dialogue and not stands_alone(asked.text),
            has_memory=bool(asked.facts),
        )

    def _key(self, asked: Asked) -> CacheKey:
        return CacheKey(normalise(asked.text), self.model, self.persona)

    # --- tools ---------------------------------------------------------------------------------

    def _offered(self, question: str) -> tuple[Tool[Any], ...]:
        """The tools of other programs that a question is about."""
        held = frozenset(self.permissions)
        tools = self.registry.granted(held) if held else ()
        return about(question, [tool for tool in tools if tool.permission in held])

    def _call(self, call: str, language: Language) -> Outcome:
        wanted = parse(call)
        if wanted is None:
            return Outcome(phrase("unknown", language))
        arguments = bytes(wanted.arguments)
        result = self.registry.call(wanted.name, arguments, self.permissions, language=language)
        if result.status != "unconfirmed":
            return Outcome(result.spoken)

        def confirmed() -> Outcome:
            done = self.registry.call(
                wanted.name, arguments, self.permissions, language=language, confirmed=True
            )
            return Outcome(done.spoken)

        return Outcome(result.spoken, ask=Plan(act=confirmed))


def _with(considered: Considered, **changes: object) -> Considered:
    return msgspec.structs.replace(considered, **changes)


def _is_habit(understood: Understood, question: str) -> bool:
    """Whether it asks for what is usual ("what time do I get up?") rather than for what is set."""
    return (
        understood.intent in _OF_CLOCKS
        and is_personal(question)
        and not _NAMES_CLOCK.search(question)
    )


def _went_wrong(record: TurnRecord) -> bool:
    return any(mark.endswith(("_failed", "_timeout", "_restarted")) for mark in record.marks) or (
        "apology" in record.marks or "empty_answer" in record.marks
    )

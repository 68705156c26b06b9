"""What becomes of a question before any language model is asked. Pure: no bus, no thread.

Asked for each transcript, also for those in pauses that may not be the end of the turn: so
considering changes nothing. What is to be done, remembered or taken as the topic waits for the
turn's `Commit`.
"""

from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from appliance.messages import LOCAL_SESSION, Commit, Consider, Considered, TurnRecord
from appliance.mind.answering import asks_for_own, fits
from appliance.mind.cache import CachedAnswer, CacheKey, ResponseCache, is_lasting, normalise
from appliance.mind.memory import Fact, Memory, Who, for_model
from appliance.mind.perspective import for_speech
from appliance.mind.recall import chinese_words, is_personal
from appliance.mind.sayings import phrase
from appliance.mind.skills import Act, Outcome, Plan, Skills, Voice, plan_of
from appliance.mind.tools import Registry, Tool, offer, parse
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
_SHORT_ANSWER = 3
"""Words, or twice as many Chinese characters: who says more has passed on to something else."""
_SAID = 32
"""Exchanges: more than llm is told of word by word."""
_YES = re.compile(
    r"(?:(?:yes|yeah|yep|yup|sure|ok|okay|please|do it|do that|do|go ahead|of course|correct|right"
    r"|that's right|definitely|absolutely|对|是|是的|好|好的|可以|当然|行|没错|确定)[\s,.!]*)+"
)
_RECALLED = 0.9
"""Confidence in a fact that answers a question."""
_NAMES_SOMETHING = re.compile(r"(?<!^)\b[A-Z][a-z]+|\d")
_OF_CLOCKS = frozenset({"alarm_list", "timer_list", "timer_left"})
_NAMES_CLOCK = re.compile(
    r"\b(?:alarm|timer|reminder|countdown)s?\b|闹钟|计时|定时|倒计时|提醒"
    r"|\b(?:today|tonight|tomorrow|\w+day)\b|今天|今晚|明天|明早|星期|周[一二三四五六日]",
    re.IGNORECASE,
)
"""What is set is meant, not what is usual."""
_SILENCE_NS = 15 * 60 * 1_000_000_000
"""After it a conversation is over: nothing is repeated or followed up."""
_STANDS_ALONE_WORDS = 7
"""A question as long as this hardly hangs on what was said before it."""


@dataclass
class _Asked:
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
    turn_id: str = ""
    voice: Voice = field(default_factory=Voice)
    """How answers were spoken before anything was done for it."""
    call: str = ""
    """What llm called for."""
    acts: bool = False
    """Whether something is done for it, or taken back."""
    outcome: Outcome | None = None
    """What was done; None before."""

    def wants_the_same(self, other: _Asked) -> bool:
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
class _Session:
    topic: Topic = field(default_factory=Topic)
    voice: Voice = field(default_factory=Voice)
    last_reply: str = ""
    active_ns: int = 0
    """When a turn last went on in it."""
    ask: Plan | None = None
    """What a yes would do."""
    ask_until_ns: int = 0
    """Later than this a yes is meant for somebody else."""
    committed: _Asked | None = None
    """The question whose answer is being given."""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_SAID))
    """What llm was told last, in lower case."""

    def mentioned(self, thing: str) -> bool:
        """Whether llm may know of it from the conversation."""
        return any(thing in text for text in self.said)

    def before(self, turn_id: str) -> _Asked | None:
        """What was committed already in a turn that goes on after all."""
        same = self.committed is not None and turn_id and self.committed.turn_id == turn_id
        return self.committed if same else None


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
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _asked: OrderedDict[tuple[str, str], _Asked] = field(default_factory=OrderedDict)

    def session(self, session_id: str) -> _Session:
        """What is known of a conversation."""
        return self._sessions.setdefault(session_id, _Session())

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

    def _read(self, session: _Session, message: Consider) -> _Asked:
        """What is meant, as if nothing had been done yet in the same turn."""
        before = session.before(message.turn_id)
        voice = before.voice if before else session.voice
        if before is not None:
            ask = before.plan if before.answers else None
        else:
            ask = session.ask if self.clock_ns() < session.ask_until_ns else None
        if self._is_over(session):
            session = replace(session, topic=Topic(), last_reply="")
        asked = self._understand(session, message, voice, ask)
        asked.turn_id, asked.voice = message.turn_id, voice
        return asked

    def _is_over(self, session: _Session) -> bool:
        """Whether it was silent for so long that what is said now begins a new conversation."""
        return self.clock_ns() - session.active_ns > _SILENCE_NS

    def _understand(
        self, session: _Session, message: Consider, voice: Voice, ask: Plan | None
    ) -> _Asked:
        text = message.text
        language: Language = "zh" if language_of(text) == "zh" else "en"
        if ask is not None:
            agreed = _YES.fullmatch(text.casefold().strip(" ,.!?，。！？")) is not None
            plan = ask if agreed else Plan(phrase("not_done", language))
            if agreed or _is_short(text, language):
                return _Asked(text, text, None, plan, "", False, language, answers=True)
        understanding = self.understandings.get(language)
        understood = understanding.understand(text) if understanding else None
        question = text
        if understood is None and understanding is not None:
            followed = session.topic.follow(text, understanding)
            if isinstance(followed, str):
                question = followed
            else:
                understood = followed
        plan = Plan()
        if understood is not None:
            found = plan_of(self.skills, understood, voice, session.last_reply)
            plan, understood = (found, understood) if found else (plan, None)
        last_resort = understood is not None and understood.intent in LAST_RESORT
        if last_resort and self._tools_about(question):
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
        return _Asked(text, question, understood, plan, facts, message.in_dialogue, language)

    def _considered(self, asked: _Asked, message: Consider) -> Considered:
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
        tools = self._tools_about(asked.question)
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
        session.ask = None
        topic = Topic() if self._is_over(session) else session.topic
        session.topic = topic.after(asked.question, asked.understood)
        session.active_ns = self.clock_ns()
        asked.call = message.call
        act = asked.plan.act
        if message.call:
            act = functools.partial(self._call, message.call, asked.language)
        if act is None and (before is None or not before.acts):
            return None
        asked.acts = True
        return functools.partial(_done_once, asked, act, before)

    def done(self, session_id: str, outcome: Outcome) -> None:
        """An act has ended."""
        if outcome.forgotten:
            self.cache.forget()
        session = self._sessions.get(session_id)
        if session is None:  # closed meanwhile; who comes next was asked nothing
            return
        session.ask = outcome.ask
        session.ask_until_ns = self.clock_ns() + _ASK_NS
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
                in_dialogue=asked.in_dialogue and not _stands_alone(asked.text),
                has_memory=bool(asked.facts),
            )

    def _may_be_cached(self, asked: _Asked) -> bool:
        return is_lasting(
            asked.text,
            in_dialogue=asked.in_dialogue and not _stands_alone(asked.text),
            has_memory=bool(asked.facts),
        )

    def _key(self, asked: _Asked) -> CacheKey:
        return CacheKey(normalise(asked.text), self.model, self.persona)

    # --- tools ---------------------------------------------------------------------------------

    def _tools_about(self, question: str) -> tuple[Tool[Any], ...]:
        """The tools that the question's words are about: offered unasked they are called wrongly.

        (docs/mind-memory.md, Tools: of 8 remarks 5 were taken for a call.)
        """
        if not self.permissions:
            return ()
        words = _content(question)
        return tuple(
            tool
            for tool in self.registry.granted(self.permissions)
            if tool.permission in self.permissions and words & _about(tool)
        )

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


def _done_once(asked: _Asked, act: Act | None, before: _Asked | None) -> Outcome:
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


def _with(considered: Considered, **changes: object) -> Considered:
    return msgspec.structs.replace(considered, **changes)


def _is_habit(understood: Understood, question: str) -> bool:
    """Whether it asks for what is usual ("what time do I get up?") rather than for what is set."""
    return (
        understood.intent in _OF_CLOCKS
        and is_personal(question)
        and not _NAMES_CLOCK.search(question)
    )


def _is_short(text: str, language: Language) -> bool:
    if language == "zh":
        return len(text) < 2 * _SHORT_ANSWER
    return len(text.split()) < _SHORT_ANSWER


def _stands_alone(question: str) -> bool:
    """Whether earlier turns hardly matter to a question: it names what it is about."""
    words = question.split()
    if len(words) < 4:
        return False
    return len(words) >= _STANDS_ALONE_WORDS or bool(_NAMES_SOMETHING.search(question))


def _went_wrong(record: TurnRecord) -> bool:
    return any(mark.endswith(("_failed", "_timeout", "_restarted")) for mark in record.marks) or (
        "apology" in record.marks or "empty_answer" in record.marks
    )


def _about(tool: Tool[Any]) -> set[str]:
    return _content(f"{tool.name.replace('_', ' ')} {tool.description}")


def _content(text: str) -> set[str]:
    """The words that say what a text is about, as far as their length tells; Chinese in pairs."""
    found: set[str] = set()
    for word in normalise(text).split():
        if not word.isascii():
            found.update(pair for pair in chinese_words(word) if len(pair) > 1)
        elif len(word) > 3:
            found.add(word.rstrip("s"))
    return found

"""What the appliance was asked to remember: facts of a user or a room.

Facts are kept as they were said. They are data: in a prompt they are quoted, bounded and stripped
of whatever could end a quotation or look like a chat template's marks.
"""

from __future__ import annotations

import functools
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

import msgspec

from appliance.errors import ApplianceError
from appliance.mind.answering import fits, needed
from appliance.mind.characters import has_chinese, visible
from appliance.mind.perspective import for_speech
from appliance.mind.recall import Hit, Index, relevant

MAX_FACTS = 10_000
MAX_TEXT_LENGTH = 300
_MAX_PROMPT_FACT = 200
_MEANT = 0.5
"""Share of a query's words that a fact must meet to be meant by "forget"."""
_OF_ANOTHER_KIND = 0.5
"""What a fact counts that does not say what is asked for."""
_BRACKETS = re.compile(r"[()（）\"“”]")
_MARKS = re.compile(r"<\|.*?\|>|</?s>|\[/?INST\]|<</?SYS>>|[<>|`{}\[\]#*_\\]+")
_ENGLISH_ATTRIBUTE = re.compile(
    r"^(?P<subject>.{0,60}\b(?:favou?rite\b.{0,30}|name|birthday|anniversary|number|password|code|"
    r"pin|combination|address|age|job|size|weight|height|boss|doctor|dentist|car|bank|zip|postcode))"
    r" (?:is|are|was)\b"
)
_ENGLISH_STATE = re.compile(
    r"^(?P<subject>(?:\S+ ){0,3}?\S+?) (?P<verb>(?:live|weigh|come)s?\b"
    r"|(?:am|is|are) (?:called|named)\b|(?:am|is|are) (?:\S+ ){1,3}years? old\b)"
)
_CHINESE_STATE = re.compile(
    r"^(?P<subject>.{0,12}?(?:最喜欢的.{1,8}|生日|密码|号码|名字|电话|地址|年龄|工作|体重|身高)?)"
    r"(?P<verb>住在?|叫|姓|是)"
)
_CHINESE_ATTRIBUTE = re.compile(r"最喜欢的|生日|密码|号码|名字|电话|地址|年龄|工作|体重|身高")
_NEGATION = re.compile(
    r"\b(?:do not|don't|does not|doesn't|not|no longer|any ?more|isn't|aren't|never)\b|不再|不|没有"
)


class MemoryLimitError(ApplianceError):
    """Something that cannot be remembered; the message can be spoken."""


class Who(msgspec.Struct, frozen=True):
    """Who speaks, and where. Without a user, facts belong to the room."""

    user: str = ""
    room: str = ""

    @property
    def owner(self) -> str:
        """To whom a new fact belongs."""
        return f"user:{self.user}" if self.user else f"room:{self.room}"

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose facts may be told to them."""
        return tuple(dict.fromkeys((self.owner, f"room:{self.room}")))


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was told."""

    id: str
    text: str
    """As it was said."""
    owner: str
    told_wall_ms: int
    """When, milliseconds since 1970 UTC."""
    order: int
    """Later told, higher: the clock may have been set."""


FACT_DECODER = msgspec.json.Decoder(Fact)
"""For the store's table ``facts``."""


class Remembered(msgspec.Struct, frozen=True):
    """It was stored."""

    fact: Fact
    replaces: tuple[Fact, ...]
    """What it contradicts: no longer told, but not deleted."""


class Forgotten(msgspec.Struct, frozen=True):
    """These are gone, the older versions of the same thing among them."""

    facts: tuple[Fact, ...]


class WhichOne(msgspec.Struct, frozen=True):
    """Several may be meant: nothing was forgotten; ask, then `Memory.forget_these`."""

    facts: tuple[Fact, ...]


class NothingFound(msgspec.Struct, frozen=True):
    """No fact is meant: nothing was forgotten."""


class Store(Protocol):
    """Where facts outlive a restart: `appliance.mind.store.Table`."""

    def all(self) -> list[Fact]:
        """What is stored."""

    def put(self, *records: Fact) -> None:
        """Store or replace, all or none."""

    def replace(self, gone: Iterable[str], *records: Fact) -> None:
        """Delete and store, all or nothing."""


F = TypeVar("F", bound=Callable[..., Any])


def _reading(method: F) -> F:
    @functools.wraps(method)
    def run(self: Memory, *args: object, **kwargs: object) -> object:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast(F, run)


def _writing(method: F) -> F:
    """One at a time. What is held changes only under the other lock too, and not for the time of
    a write: a slow disk must not hold up a question."""

    @functools.wraps(method)
    def run(self: Memory, *args: object, **kwargs: object) -> object:
        with self._write_lock:
            return method(self, *args, **kwargs)

    return cast(F, run)


class Memory:
    """All facts. Threads may share it.

    Args:
        store: where they are kept.
        wall_ms: the wall clock, milliseconds since 1970 UTC.
        scrub: called after facts were deleted, so that nothing of them stays on the disk.

    Raises:
        StoreError: the facts cannot be read.
    """

    def __init__(
        self, store: Store, wall_ms: Callable[[], int], scrub: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._scrub = scrub
        self._lock, self._write_lock = threading.RLock(), threading.RLock()
        self._index = Index()
        self._facts: dict[int, Fact] = {}
        self._newest: dict[tuple[str, str], int] = {}
        for fact in sorted(store.all(), key=lambda f: f.order):
            self._hold(fact)
        self._index.add((f.order, f.text, f.owner) for f in self._facts.values())

    @_writing
    def remember(self, text: str, who: Who) -> Remembered:
        """Store a fact; it is on the disk when this returns.

        Raises:
            MemoryLimitError: nothing to remember, too long, or too many already.
            StoreError: it could not be stored, so it is not remembered.
        """
        clean = " ".join(visible(text).split())
        if not re.search(r"\w", clean):
            raise MemoryLimitError("there was nothing to remember")
        if len(clean) > MAX_TEXT_LENGTH:
            raise MemoryLimitError("that is too long to remember: say it in one short sentence")
        same = [f for f in self._of(who.owner) if _normal(f.text) == _normal(clean)]
        if len(self._facts) - len(same) >= MAX_FACTS:
            raise MemoryLimitError("the memory is full: forget something first")
        fact = Fact(
            id=uuid.uuid4().hex,
            text=clean,
            owner=who.owner,
            told_wall_ms=self._wall_ms(),
            order=max(self._facts, default=0) + 1,
        )
        contradicted = [f for f in self._contradicted(fact) if f not in same and self._current(f)]
        self._store.replace([f.id for f in same], fact)
        with self._lock:
            self._drop(same)
            self._hold(fact)
            self._index.add([(fact.order, fact.text, fact.owner)])
        return Remembered(fact, tuple(contradicted))

    @_writing
    def forget(self, query: str, who: Who) -> Forgotten | WhichOne | NothingFound:
        """Forget the fact that is meant, if it is clear which.

        Raises:
            StoreError: it could not be stored; nothing was forgotten.
        """
        exact = [f for f in self._of(*who.owners) if _normal(f.text) == _normal(query)]
        hits = [h for h in self._search(query, who) if h.coverage >= _MEANT]
        found = exact or [self._facts[h.row] for h in hits if h.coverage == hits[0].coverage]
        if not found:
            return NothingFound()
        if len(found) > 1:
            return WhichOne(tuple(found))
        return self.forget_these([found[0].id])

    @_writing
    def forget_these(self, identities: Iterable[str]) -> Forgotten:
        """Forget these, and the older versions that they had replaced.

        Raises:
            StoreError: it could not be stored; nothing was forgotten.
        """
        wanted = set(identities)
        chosen = {f.order: f for f in self._facts.values() if f.id in wanted}
        for fact in list(chosen.values()):
            chosen.update((f.order, f) for f in self._contradicted(fact))
        gone = tuple(chosen.values())
        self._store.replace([f.id for f in gone])
        self._drop(gone)
        if gone:
            self._scrub()
        return Forgotten(gone)

    @_reading
    def about(self, who: Who) -> tuple[Fact, ...]:
        """What is known to them, the newest first."""
        known = [f for f in self._of(*who.owners) if self._current(f)]
        return tuple(sorted(known, key=lambda f: f.order, reverse=True))

    @_reading
    def relevant(self, question: str, who: Who, limit: int = 3) -> tuple[Fact, ...]:
        """The few facts that a question is about, best first; none for most questions."""
        return tuple(self._facts[hit.row] for hit in self._hits(question, who)[:limit])

    @_reading
    def answer(self, question: str, who: Who) -> Fact | None:
        """The one fact that answers a question; None when unsure."""
        least = needed(question)
        hits = self._hits(question, who)
        if not hits or hits[0].coverage < least:
            return None
        if len(hits) > 1 and hits[1].coverage == hits[0].coverage:
            return None
        fact = self._facts[hits[0].row]
        return fact if fits(question, fact.text) else None

    def _hits(self, question: str, who: Who) -> list[Hit]:
        """The facts that a question is about, best first; what cannot answer it counts half."""
        hits = [
            hit
            if fits(question, self._facts[hit.row].text)
            else replace(hit, coverage=_OF_ANOTHER_KIND * hit.coverage)
            for hit in self._search(question, who)
        ]
        return relevant(question, sorted(hits, key=Hit.rank, reverse=True))

    @_reading
    def export(self, who: Who | None = None) -> str:
        """Everything that is stored of someone (None: of all), the replaced too, as JSON."""
        facts = list(self._facts.values()) if who is None else self._of(who.owner)
        return msgspec.json.format(msgspec.json.encode(facts)).decode()

    @_writing
    def erase(self, who: Who | None = None) -> int:
        """Delete everything of someone (None: of all) for good; how many facts that was.

        Raises:
            StoreError: it could not be stored; nothing was erased.
        """
        facts = list(self._facts.values()) if who is None else self._of(who.owner)
        self._store.replace([f.id for f in facts])
        self._drop(facts)
        self._scrub()
        return len(facts)

    def _search(self, text: str, who: Who) -> list[Hit]:
        return [
            h for h in self._index.search(text, who.owners) if self._current(self._facts[h.row])
        ]

    def _of(self, *owners: str) -> list[Fact]:
        return [f for f in self._facts.values() if f.owner in owners]

    def _hold(self, fact: Fact) -> None:
        self._facts[fact.order] = fact
        self._newest.update(((fact.owner, key), fact.order) for key in _keys(fact.text))

    def _drop(self, facts: Sequence[Fact]) -> None:
        if not facts:
            return
        gone = {f.order for f in facts}
        left = [f for order, f in self._facts.items() if order not in gone]
        with self._lock:
            self._index.remove(gone)
            self._facts.clear()
            self._newest.clear()
            for fact in left:
                self._hold(fact)

    def _current(self, fact: Fact) -> bool:
        """Whether nothing newer says otherwise."""
        return all(self._newest[fact.owner, key] == fact.order for key in _keys(fact.text))

    def _contradicted(self, fact: Fact) -> list[Fact]:
        keys = _keys(fact.text)
        return [f for f in self._of(fact.owner) if f.order < fact.order and keys & _keys(f.text)]


def for_model(facts: Iterable[Fact]) -> str:
    """Facts for a language model, to stand after the user's question, as the model would say them.

    Nothing in them can end the parenthesis or be taken for a chat template's marks. In the second
    person, since a small model repeats what it reads: from "I prefer tea" it says that it does.
    Empty without facts.
    """
    told = " ".join(for_speech(_harmless(fact.text))[:_MAX_PROMPT_FACT] for fact in facts)
    if not told:
        return ""
    if has_chinese(told):
        return f'(你以前告诉过我："{told}"如果这回答了问题，就照样说，称我为"你"。)'
    return f'(You told me before: "{told}" If that answers it, say it again; call me "you".)'


def _harmless(text: str) -> str:
    text = _MARKS.sub(" ", visible(text))
    return " ".join(_BRACKETS.sub(" ", text).split())[:_MAX_PROMPT_FACT].rstrip(" .!?。！？")


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.casefold().replace("’", "'")))


@functools.lru_cache(maxsize=4 * MAX_FACTS)
def _keys(text: str) -> frozenset[str]:
    """What a fact states, without what it states of it: facts that share one contradict.

    Only where one thing can hold at a time: an attribute ("my favourite colour is"), a place of
    living, an age, a name; or the same sentence with and without a negation.
    """
    normal = _normal(text).replace("i'm", "i am")
    keys = {" ".join(_NEGATION.sub(" ", normal).split())}
    if match := _ENGLISH_ATTRIBUTE.match(normal):
        keys.add(match["subject"] + " =")
    elif match := _ENGLISH_STATE.match(normal):
        verb = match["verb"].split()
        keys.add(f"{match['subject']} {verb[-1] if len(verb) > 1 else verb[0].rstrip('s')} =")
    elif (match := _CHINESE_STATE.match(normal)) and (
        match["verb"] != "是" or _CHINESE_ATTRIBUTE.search(match["subject"])
    ):
        keys.add(f"{match['subject']} {match['verb'][0]} =")
    return frozenset(keys)

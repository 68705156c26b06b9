"""Which facts a question is about: words, stems and related words in an in-memory FTS5 index.

The index lies in memory whether the store is encrypted or not, so nothing in clear is written for
its sake. English words are stemmed (Porter); Chinese is indexed by character and asked for in
pairs, since SQLite's trigrams cannot find words of two characters.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from appliance.mind.characters import HAN, has_chinese

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_RELATED_FILE = Path(__file__).with_name("related_words.toml")
_CHINESE = re.compile(f"[{HAN}]")
_TOKEN = re.compile(rf"[{HAN}]+|[^\W_{HAN}]+(?:['’][^\W_{HAN}]+)*")
_BIDDING = re.compile(r"\b(?:tell|sing|give|show|read|explain|teach|play|help|let) me\b")
_ENDINGS = (("s", ""), ("es", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ies", "y"))
_MAX_LENGTH = 1000
"""Characters of a text that are looked at."""
_MAX_TERMS = 16
_ROWS_PER_TERM = 300
_RELATIVE = 0.75
"""What meeting a relative counts, against the word itself."""
_PAIR = 2
"""Characters that a Chinese text is asked for together; they may belong to two words."""
_HALF_A_PAIR = 0.4
_SAME_PERSON = 1.25
_PREFIX_LENGTH = 4
"""Letters from which a word is also looked for as the beginning of another."""
_MEANT_COVERAGE = 0.25
"""Share of a question's words that a fact must meet when the question is about the asker ..."""
_ANY_COVERAGE = 0.5
"""... and when it is about anything."""
_AGAINST_BEST = 0.6
"""Facts that meet less than this share of what the best one meets are left out."""


@dataclass(frozen=True)
class Words:
    """Language data: which words say nothing, whom a question is about, what belongs together."""

    stop: frozenset[str]
    personal: frozenset[str]
    stop_zh: tuple[str, ...]
    personal_zh: tuple[str, ...]
    related: dict[str, frozenset[str]]
    phrases: tuple[str, ...]
    """Those of ``related`` that are more than one word."""


@dataclass(frozen=True)
class Hit:
    """A fact that a text is about."""

    row: int
    coverage: float
    """Share of the text's words that it meets."""
    score: float
    """Sum of the words' bm25 weights."""

    def rank(self) -> tuple[float, float, int]:
        """Higher is better; the newer of equals."""
        return self.coverage, self.score, self.row


@lru_cache(maxsize=1)
def words() -> Words:
    """The language data, read once."""
    data = tomllib.loads(_RELATED_FILE.read_text(encoding="utf-8"))
    related: dict[str, set[str]] = {}
    for group in data["related"]:
        for word in group:
            related.setdefault(word, set()).update(group)
    return Words(
        stop=frozenset(data["stop_en"].split()),
        personal=frozenset(data["personal_en"].split()),
        stop_zh=tuple(sorted(data["stop_zh"].split(), key=len, reverse=True)),
        personal_zh=tuple(data["personal_zh"].split()),
        related={word: frozenset(group) for word, group in related.items()},
        phrases=tuple(word for word in related if " " in word),
    )


def terms(text: str) -> dict[str, frozenset[str]]:
    """What a text is about: the words in it that say something, each with its relatives."""
    data = words()
    text = text[:_MAX_LENGTH].casefold()
    found = {
        phrase: data.related[phrase] for phrase in data.phrases if re.search(rf"\b{phrase}\b", text)
    }
    for token in _TOKEN.findall(text):
        if has_chinese(token):
            found.update((word, _relatives(word, data)) for word in chinese_words(token))
            continue
        word = re.sub(r"['’].*", "", token)
        known = any(word in other.split() or word in found[other] for other in found)
        if not known and word not in data.stop and token not in data.stop:
            found[word] = _relatives(word, data)
    return dict(list(found.items())[:_MAX_TERMS])


def is_personal(text: str) -> bool:
    """Whether a text speaks of the speaker or theirs."""
    return bool(_persons(text))


class Index:
    """Facts by their words, in memory. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5"
            "(text, owner UNINDEXED, tokenize = 'porter unicode61')"
        )

    def add(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Take rows of number, text and owner."""
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT INTO words (rowid, text, owner) VALUES (?, ?, ?)",
                ((row, _apart(text), owner) for row, text, owner in rows),
            )
            self._connection.execute("COMMIT")

    def remove(self, rows: Iterable[int]) -> None:
        """Drop rows."""
        with self._lock:
            self._connection.executemany(
                "DELETE FROM words WHERE rowid = ?", [(row,) for row in rows]
            )

    def search(self, text: str, owners: Iterable[str]) -> list[Hit]:
        """What meets any word of the text, best first.

        A relative of a word counts for less than the word. Who speaks of "I" means rather "I fear
        dogs" than "my son fears dogs".
        """
        asked = terms(text)
        persons = _persons(text)
        mine = tuple(owners)
        met: dict[int, dict[str, float]] = {}
        scores: dict[int, float] = {}
        with self._lock:
            for word, relatives in asked.items():
                for alternatives, weight in _alternatives(word, relatives):
                    for row, score, fact in self._matches(alternatives, mine):
                        if word not in met.setdefault(row, {}):
                            met[row][word] = weight
                            person = _SAME_PERSON if persons & _persons(fact) else 1.0
                            scores[row] = scores.get(row, 0.0) + weight * score * person
        hits = [Hit(row, sum(w.values()) / len(asked), scores[row]) for row, w in met.items()]
        return sorted(hits, key=Hit.rank, reverse=True)

    def _matches(
        self, alternatives: Iterable[str], owners: Sequence[str]
    ) -> list[tuple[int, float, str]]:
        """Row, bm25 weight and text of what meets any of these FTS5 terms."""
        query = " OR ".join(sorted(alternatives))
        if not query:
            return []
        return self._connection.execute(
            "SELECT rowid, -rank, text FROM words WHERE words MATCH ? AND owner IN "  # noqa: S608
            f"({','.join('?' * len(owners))}) ORDER BY rank LIMIT {_ROWS_PER_TERM}",
            (query, *owners),
        ).fetchall()


def relevant(question: str, hits: list[Hit]) -> list[Hit]:
    """Those hits that are worth telling a language model with the question."""
    least = _MEANT_COVERAGE if is_personal(question) else _ANY_COVERAGE
    if not hits:
        return []
    least = max(least, _AGAINST_BEST * hits[0].coverage)
    return [hit for hit in hits if hit.coverage >= least]


def _apart(text: str) -> str:
    """Chinese characters set apart, so that each is a token."""
    return _CHINESE.sub(lambda m: f" {m[0]} ", text)


def _alternatives(word: str, relatives: frozenset[str]) -> tuple[tuple[list[str], float], ...]:
    """What may stand for a word in a fact, as FTS5 terms, and what each counts."""
    others = [_quoted(other) for other in relatives - {word}]
    if has_chinese(word):
        characters = [_quoted(character) for character in word]
        apart = [f"({' AND '.join(characters)})"] if len(word) > 1 else []  # 戒烟: 戒了烟
        one = characters if len(word) == _PAIR else []  # 伞丢: 雨伞
        return ([_quoted(word)], 1.0), ([*others, *apart], _RELATIVE), (one, _HALF_A_PAIR)
    if len(word) >= _PREFIX_LENGTH:
        others.append(_quoted(word) + "*")  # hair: hairdresser
    return ([_quoted(word)], 1.0), (others, _RELATIVE)


def _quoted(word: str) -> str:
    return f'"{_apart(word).strip()}"'


def _persons(text: str) -> frozenset[str]:
    """The words of the first person in a text."""
    data = words()
    said = _BIDDING.sub(" ", text[:_MAX_LENGTH].casefold())
    tokens = {re.sub(r"['’].*", "", token) for token in _TOKEN.findall(said)}
    return frozenset((*(tokens & data.personal), *(w for w in data.personal_zh if w in text)))


def _relatives(word: str, data: Words) -> frozenset[str]:
    forms = [word]
    forms += [word[: -len(a)] + b for a, b in _ENDINGS if word.endswith(a)]
    return next((data.related[form] for form in forms if form in data.related), frozenset())


def chinese_words(run: str) -> list[str]:
    """Known words, and pairs of characters of what is left between words that say nothing."""
    data = words()
    found: list[str] = []
    known = sorted((w for w in data.related if w in run and has_chinese(w)), key=len)
    for word in reversed(known):
        if word in run:
            found.append(word)
            run = run.replace(word, " ")
    for word in data.stop_zh:
        run = run.replace(word, " ")
    for rest in run.split():
        pairs = [rest[i : i + 2] for i in range(len(rest) - 1)]
        found.extend(pairs or [rest])
    return found

"""Answers that were given before, so that they need neither be written nor spoken again. Pure.

Only what is true for everyone and at any time is kept. One thread only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORDS = re.compile(r"[^\W_]+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PERSONAL = _set(
    "i me my mine myself we us our ours you your yours im ive ill id were weve youre remember "
    "forget"
)
_DEPENDS_ON_TIME = _set(
    "now today tonight tomorrow yesterday time date day week weekend month year current currently "
    "latest recent recently newest last next still yet ago soon later morning afternoon evening "
    "night weather rain raining forecast temperature news timer timers alarm alarms clock hour "
    "minute minutes second seconds monday tuesday wednesday thursday friday saturday sunday "
    "january february march april june july august september october november december season "
    "volume battery status president minister price stock score random joke"
)
_REFERS = _set(
    "it its he him his she her hers they them their theirs this that these those there again "
    "more else another same instead too also former latter continue previous"
)
"""Words whose meaning is in what was said before."""
_SAYS_SO_ZH = re.compile(
    "[我你您咱俺他她它这那]|现在|今[天晚年早日]|明[天早晚年日]|昨[天晚日]|几点|几号|星期|时间|日期"
    "|天气|气温|下雨|温度|新闻|最近|目前|最新|刚才|闹钟|定时|提醒|记住|忘记|记得|音量|还有|再来"
    "|继续|上次|下次|笑话|总统|主席|价格"
)
_OVERHEAD_BYTES = 96
"""Of an entry besides its texts and audio, about."""


@dataclass(frozen=True)
class CacheKey:
    """What an answer depends on."""

    question: str
    """As `normalise` gives it."""
    model: str
    persona: str
    """The instructions that shape the answers, or a name for them; language and voice included."""
    context: str = ""
    """Facts that were put before the model for this question; empty when there were none."""


@dataclass(frozen=True)
class CachedAnswer:
    """An answer and, when it was spoken to its end, its sound."""

    text: str
    audio: bytes = b""
    rate_hz: int = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.text.encode(errors="surrogatepass")) + len(self.audio)


@dataclass
class CacheStatistics:
    """What came of the questions so far."""

    hits: int = 0
    misses: int = 0
    refused: int = 0
    """Answers that were not to be kept, or too large to."""
    evicted: int = 0

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 0 before the first question."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


@dataclass
class ResponseCache:
    """The answers that were used last, as many as fit.

    Args:
        most_bytes: of keys, texts and audio together.
    """

    most_bytes: int
    statistics: CacheStatistics = field(default_factory=CacheStatistics)
    _answers: OrderedDict[CacheKey, CachedAnswer] = field(default_factory=OrderedDict)
    _bytes: int = 0

    @property
    def size(self) -> int:
        """In bytes; never more than `most_bytes`."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer that was kept for exactly this key."""
        answer = self._answers.get(key)
        if answer is None:
            self.statistics.misses += 1
            return None
        self.statistics.hits += 1
        self._answers.move_to_end(key)
        return answer

    def put(
        self, key: CacheKey, answer: CachedAnswer, *, in_dialogue: bool, has_memory: bool
    ) -> bool:
        """Keep an answer, if it is one to keep and fits; what was used longest ago makes room.

        Args:
            key: what it depends on.
            answer: replaces one that is there.
            in_dialogue: earlier turns were before the model.
            has_memory: so were facts about the user or the room.

        Returns:
            Whether it is kept.
        """
        size = _size(key, answer)
        keeps = is_lasting(key.question, in_dialogue=in_dialogue, has_memory=has_memory)
        if not keeps or not answer.text.strip() or size > self.most_bytes:
            self.statistics.refused += 1
            return False
        self._drop(key)
        self._answers[key] = answer
        self._bytes += size
        while self._bytes > self.most_bytes:
            self._drop(next(iter(self._answers)))
            self.statistics.evicted += 1
        return True

    def forget(self, keys: Iterable[CacheKey] | None = None) -> None:
        """Drop some answers, or all: the user wants nothing to be known."""
        for key in list(self._answers if keys is None else keys):
            self._drop(key)

    def _drop(self, key: CacheKey) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= _size(key, answer)


def normalise(question: str) -> str:
    """The words of a question in lower case, without marks: how it was heard does not matter."""
    text = unicodedata.normalize("NFKC", question).casefold().replace("'", "").replace("’", "")
    return " ".join(_WORDS.findall(text))


def is_lasting(question: str, *, in_dialogue: bool, has_memory: bool) -> bool:
    """Whether the answer to a question is the same for everyone, at any time.

    Doubt says no: a second answer costs a second, a wrong one costs trust.

    Args:
        question: as it was asked, or normalised.
        in_dialogue: earlier turns were before the model.
        has_memory: so were facts about the user or the room.
    """
    words = set(normalise(question).split())
    if in_dialogue or has_memory or not words or _SAYS_SO_ZH.search(question):
        return False
    return not words & (_PERSONAL | _DEPENDS_ON_TIME | _REFERS)


def _size(key: CacheKey, answer: CachedAnswer) -> int:
    texts = "".join((key.question, key.model, key.persona, key.context))
    return _OVERHEAD_BYTES + answer.size + len(texts.encode(errors="replace"))

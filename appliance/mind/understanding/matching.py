"""How far a sentence is from a template: word by word, where a word that matters may not be lost.

Characters alone do not do: "what time is tea" is as near to "what time is it" as any mishearing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler, Levenshtein
from rapidfuzz.fuzz import ratio

CANDIDATES = 8
NEAR = 72.0
"""Percent of characters in common below which no template is looked at."""
LIGHT_COST = 0.3
MERGE_COST = 0.25
"""For two words heard as one, or one as two, beside the difference of their letters."""
LEAST_ALIKE = 0.65
"""Words less alike than this are different words."""
STRICTNESS = 1.5
"""Cost of a word of which no letter is right, were it accepted."""
OTHER = 9.0
MOST_APART = 0.4
"""Cost of letters up to which two words may be one."""
ASKING = frozenset({"why", "when", "where", "who", "whose", "how", "what"})
"""None of these is another one misheard: they ask for different things."""
MAX_WORDS = 16
"""No template without free text is longer."""

Weight = Callable[[str], float]


class Templates:
    """Finished sentences by the words that matter in them, so that few need be compared.

    Args:
        keys: the sentences, words apart; slots are words in braces.
        weight: of a word; below 1 it may be missing.
    """

    def __init__(self, keys: Iterable[str], weight: Weight) -> None:
        self._weight = weight
        self._with: dict[tuple[frozenset[str], str], list[str]] = {}
        for key in keys:
            slots, heavy = self._parts(key.split())
            for word in heavy or ("",):
                self._with.setdefault((slots, word), []).append(key)

    def nearest(self, words: Sequence[str]) -> tuple[str, float] | None:
        """The sentence most like ``words``, and the confidence (0 to 1) that it was meant."""
        if not words or len(words) > MAX_WORDS:
            return None
        found = process.extract(
            " ".join(words),
            self._candidates(words),
            scorer=ratio,
            limit=CANDIDATES,
            score_cutoff=NEAR,
        )
        best: tuple[str, float] | None = None
        for key, _, _ in found:
            confidence = likeness(words, key.split(), self._weight)
            if best is None or confidence > best[1]:
                best = key, confidence
        return best

    def _candidates(self, words: Sequence[str]) -> list[str]:
        """Sentences with the same slots that may hold half of the known words that matter.

        Whatever holds half of them holds one of the rarer half.
        """
        slots, heavy = self._parts(words)
        holding = [keys for word in heavy if (keys := self._with.get((slots, word)))]
        rarer = sorted(holding, key=len)[: len(holding) // 2 + 1]
        light = self._with.get((slots, ""), [])
        return list(dict.fromkeys(key for keys in (*rarer, light) for key in keys))

    def _parts(self, words: Sequence[str]) -> tuple[frozenset[str], tuple[str, ...]]:
        """The slots, and the words that matter."""
        slots = frozenset(word for word in words if "{" in word)
        heavy = dict.fromkeys(w for w in words if w not in slots and self._weight(w) >= 1.0)
        return slots, tuple(heavy)


def likeness(heard: Sequence[str], template: Sequence[str], weight: Weight) -> float:
    """1 minus the cost of the cheapest alignment, as a share of what the template weighs."""
    rows, columns = len(heard), len(template)
    cost = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows + 1):
        for j in range(columns + 1):
            if i == j == 0:
                continue
            ways = []
            if i:
                ways.append(cost[i - 1][j] + weight(heard[i - 1]))
            if j:
                ways.append(cost[i][j - 1] + weight(template[j - 1]))
            if i and j:
                ways.append(cost[i - 1][j - 1] + difference(heard[i - 1], template[j - 1]))
            if i > 1 and j:
                joined = merged(heard[i - 2] + heard[i - 1], template[j - 1])
                ways.append(cost[i - 2][j - 1] + joined)
            if i and j > 1:
                joined = merged(heard[i - 1], template[j - 2] + template[j - 1])
                ways.append(cost[i - 1][j - 2] + joined)
            cost[i][j] = min(ways)
    total = sum(weight(word) for word in template)
    return 1.0 - cost[rows][columns] / max(total, 1.0)


@lru_cache(maxsize=65_536)
def difference(heard: str, meant: str) -> float:
    """0 for the same word, more for one that could be it; `OTHER` for another word or slot."""
    if heard == meant:
        return 0.0
    if "{" in heard or "{" in meant or heard.isdigit() or meant.isdigit() or len(meant) < 2:
        return OTHER
    if heard in ASKING and meant in ASKING:
        return OTHER
    alike = max(
        float(Levenshtein.normalized_similarity(heard, meant)),
        float(JaroWinkler.similarity(heard, meant)) - 0.12,
    )
    return OTHER if alike < LEAST_ALIKE else STRICTNESS * (1.0 - alike)


@lru_cache(maxsize=65_536)
def merged(one: str, other: str) -> float:
    """The same where one of the two was put together from two words."""
    if "{" in one or "{" in other:
        return OTHER
    apart = STRICTNESS * (1.0 - float(Levenshtein.normalized_similarity(one, other)))
    return apart + MERGE_COST if apart <= MOST_APART else OTHER

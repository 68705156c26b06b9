"""Which words were a vocabulary entry misheard: how near the sounds are, how sure the decoder was.

A noisy-channel decision in log-odds. That an entry was said speaks for: sounds near what was
heard, a decoder that was unsure there, a high boost and, where the audio can be asked again, that
it explains the audio better than the words heard. The weights are a logistic regression on
synthetic voices (``appliance bench vocabulary``, development lists).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from appliance.asr.words import HeardWord

MAX_SPAN_WORDS = 6
"""A long name falls to pieces: "love with the rock sign" was levothyroxine."""
USUAL_BOOST = 3.0
_SPANS_AT_ONCE = 512
_MAX_UNCERTAINTY = 3.0
_ENOUGH_UNCERTAINTY = 1.5
_MAX_GAIN = 15.0
_UNKNOWN_UNCERTAINTY = 0.5
_EDGES = re.compile(r"^\W*|\W*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A word or several of the vocabulary."""

    text: str
    """As it is to be written."""
    sound: str
    """See ``appliance.asr.phonetics``."""
    boost: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be what some words were."""

    entry: Entry
    first: int
    last: int
    """Position after the last word."""
    distance: float
    """Of the sounds, 0 the same, 1 nothing alike."""
    uncertainty: float
    """Mean of -ln(probability) of the words heard."""
    ordinary: bool = False
    """The words are a single one that everybody uses: it needs no other explanation."""

    @property
    def positions(self) -> range:
        """Of the words."""
        return range(self.first, self.last)

    @property
    def is_plausible(self) -> bool:
        """Whether it is worth asking the audio: sure words must sound much like the entry.

        Of misheard entries 85 in 100 are, and of utterances without any four in ten have one.
        """
        return self.distance < 0.25 + 0.3 * min(self.uncertainty, 1.0)

    def odds(self) -> float:
        """Return the log-odds that the entry was said, from the words alone."""
        return self._evidence(-0.1, -12.9, 1.4, 0.67, -3.9)

    def odds_given(self, gain: float, again: float) -> float:
        """Return the log-odds with the audio asked again.

        Writing the entry made it ``gain`` nats more probable; prompted with it, something so far
        (``again``, a distance) from it was heard.
        """
        bounded = min(_MAX_GAIN, max(-_MAX_GAIN, gain))
        return self._evidence(0.35, -0.5, 0.4, 0.6, -1.7) - 4.7 * again + 0.24 * bounded

    def _evidence(
        self, start: float, distance: float, unsure: float, words: float, ordinary: float
    ) -> float:
        return (
            start
            + distance * self.distance
            + unsure * min(self.uncertainty, _ENOUGH_UNCERTAINTY)
            + words * (self.last - self.first)
            + ordinary * self.ordinary
            + self._prior()
        )

    def _prior(self) -> float:
        return 0.5 * (self.entry.boost - USUAL_BOOST)


def bare(text: str) -> str:
    """Return ``text`` in lower case without what stands around its letters."""
    return " ".join(word for w in text.split() if (word := _EDGES.sub("", w).casefold()))


def uncertainty(word: HeardWord) -> float:
    """Return -ln of a word's probability, bounded; a middling value where it is not known."""
    if not word.probability > 0.0:
        return _UNKNOWN_UNCERTAINTY if math.isnan(word.probability) else _MAX_UNCERTAINTY
    return min(_MAX_UNCERTAINTY, max(0.0, -math.log(word.probability)))


def candidates(
    words: Sequence[HeardWord],
    sounds: Sequence[str],
    entries: Sequence[Entry],
    *,
    within: float,
    is_ordinary: Callable[[str], bool],
) -> Iterator[Candidate]:
    """Yield every entry and span of words whose sounds are at most ``within`` apart.

    ``sounds`` are those of the words.
    """
    unsure = np.cumsum([0.0, *map(uncertainty, words)])
    spans = [
        (first, last)
        for first in range(len(words))
        for last in range(first + 1, min(first + MAX_SPAN_WORDS, len(words)) + 1)
    ]
    targets = [entry.sound for entry in entries]
    lengths = np.array([len(target) for target in targets])
    for start in range(0, len(spans), _SPANS_AT_ONCE):
        some = spans[start : start + _SPANS_AT_ONCE]
        heard = ["".join(sounds[first:last]) for first, last in some]
        longest = np.maximum(np.array([len(sound) for sound in heard])[:, None], lengths)
        distances = cdist(heard, targets, scorer=Levenshtein.distance) / np.maximum(longest, 1)
        for row, column in np.argwhere(distances <= within):
            first, last = some[row]
            yield Candidate(
                entries[column],
                first,
                last,
                float(distances[row, column]),
                float(unsure[last] - unsure[first]) / (last - first),
                last - first == 1 and is_ordinary(bare(words[first].text)),
            )

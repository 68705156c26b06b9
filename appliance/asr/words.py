"""Words as heard: how sure the model was, when they were said, where two hearings of them agree."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

_WORDS_COMPARED = 40
_TIME_COST_PER_S = 0.25
_MAX_TIME_COST = 0.75
"""Times are evidence, but an engine without timestamps gives guesses: words weigh more."""
_SAME, _CHANGED = -1.0, 0.5
"""Left out or put in is 1."""
_NEAR_S = 0.5
_SPLICE_LETTERS = 4


@dataclass(frozen=True, slots=True)
class HeardWord:
    """One word with its punctuation, without spaces around it."""

    text: str
    probability: float
    """How sure the model was, in [0, 1]: the geometric mean over its tokens; NaN if unknown."""
    start_s: float
    end_s: float
    """Seconds from the start of the audio."""

    def later(self, seconds: float) -> "HeardWord":
        """Return the same word in audio that begins so much earlier."""
        return replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)

    @property
    def middle_s(self) -> float:
        """When half of it was said."""
        return (self.start_s + self.end_s) / 2

    @property
    def bare(self) -> str:
        """The word without case and punctuation, for comparison."""
        return re.sub(r"\W", "", self.text.lower())


@dataclass(frozen=True, slots=True)
class Corrected:
    """Words after the vocabulary has looked at them."""

    words: tuple[HeardWord, ...]
    corrections: tuple[tuple[str, str], ...] = ()
    """What was heard and what became of it, for the turn log."""

    @property
    def text(self) -> str:
        """The words in single spaces."""
        return text_of(self.words)


class Acoustics(Protocol):
    """The audio of some words, which can be asked again."""

    def hear(self, prompt: str) -> Sequence[HeardWord]:
        """Decode it once more, after ``prompt``."""
        ...

    def score(self, texts: Sequence[str], prompt: str) -> Sequence[float]:
        """Return for each text the natural log of its probability, after ``prompt``."""
        ...


class Vocabulary(Protocol):
    """Names and words that are likely here; ``dialogue`` is what was said, a turn a line."""

    def prompt(self, dialogue: str) -> str:
        """Return text for the decoder to start from."""
        ...

    def correct(
        self,
        words: Sequence[HeardWord],
        dialogue: str = "",
        acoustics: Acoustics | None = None,
    ) -> Corrected:
        """Mend near-misses and leave everything else alone.

        ``acoustics`` is the audio of exactly these words, if it can be asked.
        """
        ...


def text_of(words: Sequence[HeardWord]) -> str:
    """Return the words in single spaces."""
    return " ".join(word.text for word in words)


def mean_logprob(words: Sequence[HeardWord]) -> float:
    """Return the mean natural logarithm of the words' probabilities; 0 of none."""
    return sum(math.log(max(word.probability, 1e-10)) for word in words) / max(1, len(words))


def spread(pieces: Sequence[bytes], audio_s: float) -> list[float]:
    """Return when each piece of a text begins if all letters take the same time.

    For engines that do not tell when a word was said.
    """
    lengths = [len(piece) for piece in pieces]
    per_letter_s = audio_s / max(1, sum(lengths))
    return [per_letter_s * before for before in itertools.accumulate(lengths[:-1], initial=0)]


def from_tokens(
    pieces: Sequence[bytes],
    probabilities: Sequence[float],
    starts_s: Sequence[float],
    audio_s: float,
) -> tuple[HeardWord, ...]:
    """Return the words that tokens make: one begins with each token that begins with a space.

    Their probability is that of the tokens with letters in them, and where punctuation begins
    they end.
    """
    texts = [piece.decode("utf-8", errors="replace") for piece in pieces]
    firsts = [i for i, text in enumerate(texts) if i == 0 or text[:1].isspace()]
    words = []
    for first, last in itertools.pairwise([*firsts, len(texts)]):
        text = b"".join(pieces[first:last]).decode("utf-8", errors="replace").strip()
        if not text:
            continue
        spoken = [i for i in range(first, last) if re.search(r"\w", texts[i])] or [first]
        logs = [math.log(max(probabilities[i], 1e-10)) for i in spoken]
        end = spoken[-1] + 1
        words.append(
            HeardWord(
                text,
                math.exp(sum(logs) / len(logs)),
                starts_s[first],
                starts_s[end] if end < len(texts) else audio_s,
            )
        )
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the beginning of one hearing repeats the end of another."""

    repeated: int
    """Words at the beginning of the later one that the earlier one holds, rightly or wrongly."""
    agreed: tuple[tuple[int, int], ...]
    """Positions (in the earlier one, in the later one) of equal words, in order."""
    cost: float
    """Of the best alignment: negative where words agree."""


def align(
    earlier: Sequence[HeardWord], later: Sequence[HeardWord], *, from_s: float = float("inf")
) -> Alignment:
    """Align the end of ``earlier`` with the beginning of ``later``, by words and times.

    Both on one clock. Words of ``earlier`` that begin before ``from_s`` need not be in ``later``.
    An edit distance in which equal words are a gain and the time between two words is a cost.
    """
    skipped = max(0, len(earlier) - _WORDS_COMPARED)
    left, right = earlier[skipped:], later[: 2 * _WORDS_COMPARED]
    left_bare, right_bare = [w.bare for w in left], [w.bare for w in right]
    costs = [[float(column) for column in range(len(right) + 1)]]
    steps: list[list[int]] = [[1] * (len(right) + 1)]  # 0 left out, 1 put in, 2 matched or changed
    skip = 0.0
    for row, said in enumerate(left):
        skip += said.start_s >= from_s
        previous = costs[-1]
        current, step = [skip], [0]
        for column, heard in enumerate(right):
            apart = min(_MAX_TIME_COST, _TIME_COST_PER_S * abs(said.start_s - heard.start_s))
            same = left_bare[row] == right_bare[column]
            pair = previous[column] + apart + (_SAME if same else _CHANGED)
            options = (previous[column + 1] + 1.0, current[column] + 1.0, pair)
            best = min(range(3), key=options.__getitem__)
            current.append(options[best])
            step.append(best)
        costs.append(current)
        steps.append(step)
    end = min(range(len(right) + 1), key=costs[-1].__getitem__)
    agreed, row, column = [], len(left), end
    while row and column:
        step_taken = steps[row][column]
        if step_taken == 2 and left_bare[row - 1] == right_bare[column - 1]:
            agreed.append((skipped + row - 1, column - 1))
        row -= step_taken != 1
        column -= step_taken != 0
    return Alignment(end, tuple(reversed(agreed)), costs[-1][end])


def splice(earlier: Sequence[HeardWord], later: Sequence[HeardWord]) -> tuple[HeardWord, ...]:
    """Join two hearings whose audio overlaps, saying the words they share once.

    After the last word both have heard the later one is right: the earlier one's last word may be
    cut in half. Where they share nothing both are kept whole: a word said twice is better than one
    lost.
    """
    found = align(earlier, later)
    if not found.agreed:
        return (*earlier, *later)
    left, right = found.agreed[-1]
    shared = sum(len(earlier[position].bare) for position, _ in found.agreed)
    near = abs(earlier[left].start_s - later[right].start_s) < _NEAR_S
    dropped = len(earlier) - left - 1 + found.agreed[0][1]
    if (shared < _SPLICE_LETTERS and not near) or dropped > max(2, len(found.agreed)):
        return (*earlier, *later)  # a "the" or a far word in common is chance
    return (*earlier[: left + 1], *later[right + 1 :])

"""Words as heard, with how sure the model was and when they were said; and who may mend them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HeardWord:
    """One word with its punctuation, without spaces around it."""

    text: str
    probability: float
    """How sure the model was, in [0, 1]: the geometric mean over its tokens; NaN if unknown."""
    start_s: float
    end_s: float
    """Seconds from the start of the audio."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Words after the vocabulary has looked at them."""

    words: tuple[HeardWord, ...]
    corrections: tuple[tuple[str, str], ...] = ()
    """What was heard and what became of it, for the turn log."""

    @property
    def text(self) -> str:
        """The words in single spaces."""
        return " ".join(word.text for word in self.words)


class Vocabulary(Protocol):
    """Names and words that are likely here."""

    def prompt(self, dialogue: str) -> str:
        """Return text for the decoder to start from; ``dialogue`` is what was said last."""
        ...

    def correct(self, words: Sequence[HeardWord]) -> Corrected:
        """Mend near-misses and leave everything else alone."""
        ...

"""Everything between a language model that writes and a voice that speaks. Pure."""

from __future__ import annotations

from appliance.speech_text.characters import fold
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.structure import Structure
from appliance.speech_text.turns import Turns
from appliance.speech_text.words import Words

_AT_ONCE = 256
"""Characters; keeps the work linear in the length of the text."""


class SpeechFilter:
    """Leaves out of a text that is being written what cannot be spoken.

    What it gives, put together, does not depend on how the text was cut up, and filtered once more
    it stays the same. Nothing is held back but what may still turn out to be markup or a loop.
    Raises nothing, whatever it is given.

    Args:
        code_hint: said in place of a block of code, in the answer's language; nothing by default.
        repeats: whether words that go on in circles stay, as in what no model wrote.
    """

    def __init__(self, code_hint: str = "", *, repeats: bool = False) -> None:
        self._words = Words(repeats=repeats)
        self._turns = Turns(self._words)
        self._structure = Structure(self._turns, code_hint)

    @property
    def ended(self) -> bool:
        """Whether the answer is over: whatever follows is left out."""
        return self._turns.ended

    @property
    def space_follows(self) -> bool:
        """Whether what was returned so far ends with a whole word, though nothing comes after."""
        return self._words.space_follows

    def push(self, piece: str) -> str:
        """Add text; returns what is certain: one line per block, marks between, no markup."""
        for start in range(0, len(piece), _AT_ONCE):
            self._structure.push(fold(piece[start : start + _AT_ONCE]))
        return self._words.take()

    def finish(self) -> str:
        """End the text; returns the rest."""
        self._structure.finish()
        return self._words.finish()


class SpeechStream:
    """Pieces of an answer in, chunks that a voice can speak out, in order.

    Args:
        splitter: cuts the filtered text; see `SentenceSplitter`.
        code_hint: see `SpeechFilter`.
    """

    def __init__(self, splitter: SentenceSplitter, code_hint: str = "") -> None:
        self._splitter = splitter
        self._filter = SpeechFilter(code_hint)

    @property
    def ended(self) -> bool:
        """See `SpeechFilter.ended`."""
        return self._filter.ended

    def push(self, piece: str) -> list[str]:
        """Add text; returns the chunks that are now certain."""
        text = self._filter.push(piece)
        space = self._filter.space_follows
        return self._splitter.push(text, space_follows=space) if text or space else []

    def finish(self) -> list[str]:
        """End the text; returns what is left."""
        return [*self._splitter.push(self._filter.finish()), *self._splitter.flush()]


def clean(text: str, *, repeats: bool = False) -> str:
    """What can be spoken of a whole text, in lines; see `SpeechFilter`."""
    speech = SpeechFilter(repeats=repeats)
    return speech.push(text) + speech.finish()


def speakable(chunk: str) -> str:
    """What can be spoken of a whole text, in one line; empty when no letter or digit is left."""
    return " ".join(clean(chunk).split("\n"))

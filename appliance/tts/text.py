"""Makes any text safe to speak: nothing unpronounceable, nothing too long at a time. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.speech_text.reading import readings
from appliance.speech_text.stream import clean
from appliance.tts.languages import by_voice

_LONGEST = 120
"""Weight of a phrase, in letters: some 8 s of speech, and so a bound on one step of an engine."""
_WEIGHTS = {"N": 6, "S": 8, "Lo": 3}
"""Digits and signs are spoken as words, ideographs as syllables."""
_CLAUSE_END = re.compile(r"[,;:.!?…，；：。！？、]$")
_UNSPEAKABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Sk", "Me")
_FIRST_PICTURE = 0x2000
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_LATIN_ONLY = re.compile(r"(?!(ar|bg|cmn|el|fa|he|hi|ja|ka|ko|ru|sr|th|uk|ur|yue|zh)\b)")
"""Languages of voices that would spell other writing letter by letter."""


@dataclass(frozen=True)
class Phrase:
    """So much as an engine is given at a time."""

    text: str
    """What to speak."""
    words: tuple[str, ...]
    """What is said with each word of `text`, as it was written: "5 km" with the last word of "5
    kilometres", nothing with those before it and with the parts of a long word but the last."""
    language: str
    """Of the voice that speaks it."""


def phrases(text: str, language: str) -> list[Phrase]:
    """Divide a text into what can be spoken at a time; empty when nothing of it can be.

    What can be spoken of it is `clean`'s to say, which voice speaks it `by_voice`'s, how its
    numbers are read `readings`'.

    Args:
        text: anything.
        language: of the voice that is configured, such as `en-us`.
    """
    parts = by_voice(clean(text, repeats=True), language)
    return [phrase for voice, part in parts for phrase in _phrases(part, voice)]


def _phrases(text: str, language: str) -> list[Phrase]:
    result: list[Phrase] = []
    spoken: list[str] = []
    words: list[str] = []

    def close(count: int) -> None:
        result.append(Phrase(" ".join(spoken[:count]), tuple(words[:count]), language))
        del spoken[:count], words[:count]

    for written, said, ends_reading in _words(text, language):
        for part, is_end in _parts(said):
            if spoken and sum(map(_weigh, spoken)) + _weigh(part) > _LONGEST:
                clauses = [n for n, last in enumerate(spoken, 1) if _CLAUSE_END.search(last)]
                close(clauses[-1] if clauses and clauses[-1] > len(spoken) // 3 else len(spoken))
            spoken.append(part)
            words.append(written if is_end and ends_reading else "")
    if spoken:
        close(len(spoken))
    return result


def _words(text: str, language: str) -> Iterator[tuple[str, str, bool]]:
    """Each word that is said: with what was written, and whether that is said with it."""
    for reading in readings(text, language):
        said = [kept for word in reading.spoken.split() if (kept := _speakable(word, language))]
        for number, word in enumerate(said, start=1):
            yield reading.written, word, number == len(said)


def _speakable(word: str, language: str) -> str:
    kept = "".join(symbol for symbol in unicodedata.normalize("NFC", word) if _is_spoken(symbol))
    if _LATIN_ONLY.match(language):
        kept = "".join(symbol for symbol in kept if not _is_foreign(symbol))
    return kept if any(symbol.isalnum() or symbol in "%&+=$€£°" for symbol in kept) else ""


def _is_spoken(symbol: str) -> bool:
    category = unicodedata.category(symbol)
    picture = category == "So" and ord(symbol) >= _FIRST_PICTURE
    return not (category in _UNSPEAKABLE or picture or ord(symbol) in _VARIATION_SELECTORS)


def _is_foreign(symbol: str) -> bool:
    """A letter without case, as of Arabic, Chinese, Thai ..., or one of Cyrillic."""
    caseless = unicodedata.category(symbol) == "Lo" and symbol not in "ªº"
    return caseless or unicodedata.name(symbol, "").startswith("CYRILLIC")


def _weigh(word: str) -> int:
    categories = map(unicodedata.category, f"{word} ")
    return sum(_WEIGHTS.get(category, _WEIGHTS.get(category[0], 1)) for category in categories)


def _parts(word: str) -> Iterator[tuple[str, bool]]:
    """A word in parts that are not too long, the last one marked."""
    start = weight = 0
    for n, symbol in enumerate(word):
        weight += _weigh(symbol) - 1
        if weight > _LONGEST:
            yield word[start:n], False
            start, weight = n, _weigh(symbol) - 1
    if word:
        yield word[start:], True

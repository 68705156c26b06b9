"""Cuts a transcript into words, each with its place in the original; drops what says nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from appliance.mind.characters import HAN
from appliance.mind.understanding.lexicon import Lexicon

MAX_CHARACTERS = 400
"""Nobody says more in one command; what is longer is a question or an attack."""

_TOKEN = re.compile(
    r"\{\w+\}"  # a slot in a template
    r"|(?<![^\W\d_])[ap]\.\s?m\b\.?"  # a.m.
    r"|\d{1,2}:\d{2}(?!\d)"  # 7:30
    r"|\d+(?:st|nd|rd|th)\b"  # 22nd
    r"|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"  # 1,000 or 3.5
    rf"|[{HAN}]"
    rf"|(?:(?![{HAN}])[^\W\d_])+(?:'(?:(?![{HAN}])[^\W\d_])+)*"
    r"|-(?=\s?\d)|[+*/=^√%°$€£]",
    re.IGNORECASE,
)
_SIGNS = str.maketrans("’‘`×·÷−–：，（）％＋＝", "'''**/--:,()%+=")
_HAN_SCRIPT = re.compile(f"[{HAN}]")
_LATIN_SCRIPT = re.compile(r"[a-zA-ZÀ-ɏ]+")


class Token(NamedTuple):
    """One word: as it is compared, and where it stands in the text it came from."""

    text: str
    start: int
    end: int


def language_of(text: str, default: str = "en") -> str:
    """``en`` or ``zh`` by script: a Chinese character weighs as much as a Latin word."""
    text = text[:MAX_CHARACTERS]
    han, latin = len(_HAN_SCRIPT.findall(text)), len(_LATIN_SCRIPT.findall(text))
    return default if han == latin else "zh" if han > latin else "en"


def clean(text: str) -> str:
    """``text`` cut to `MAX_CHARACTERS`, one character for one, with plain signs and no braces."""
    cut = text[:MAX_CHARACTERS].translate(_SIGNS)
    return "".join(
        " " if c in "{}" or unicodedata.category(c) in ("Cc", "Cf", "Cs") else _plain(c)
        for c in cut
    )


def _plain(character: str) -> str:
    """Its compatibility form where that is one character too (full width, and the like)."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 else character


def tokenise(text: str, lexicon: Lexicon) -> list[Token]:
    """The words of ``text``: lower case, contractions and written variants spelt out.

    A contraction becomes two tokens with the same place.
    """
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        word = match[0].lower()
        if word[0] in "ap" and word[1:2] == ".":
            word = word[0] + "m"
        elif word[0].isdigit() and "," in word:
            word = word.replace(",", "")
        word = lexicon.variants.get(word, word)
        if "'" in word:
            head, _, tail = word.rpartition("'")
            word = head if tail == "s" else word.replace("'", "")
        tokens.extend(Token(part, match.start(), match.end()) for part in word.split())
    return tokens


def without_openers(tokens: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """``tokens`` without politeness and hesitation around the request, unless nothing is left."""
    kept = [token for token in tokens if token.text not in lexicon.fillers]
    changed = True
    while changed and kept:
        changed = False
        for phrase in lexicon.openers:
            if len(kept) > len(phrase) and _texts(kept[: len(phrase)]) == phrase:
                kept, changed = kept[len(phrase) :], True
        for phrase in lexicon.closers:
            if len(kept) > len(phrase) and _texts(kept[-len(phrase) :]) == phrase:
                kept, changed = kept[: -len(phrase)], True
    return kept or list(tokens)


def _texts(tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(token.text for token in tokens)


def key_words(text: str, lexicon: Lexicon) -> list[str]:
    """The words that count when ``text`` (normalised, perhaps with slots) is compared."""
    words = [match[0] for match in _TOKEN.finditer(text)]
    kept = [word for word in words if word not in lexicon.light_dropped] or words
    return [lexicon.similar.get(word, word) for word in kept]

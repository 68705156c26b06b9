"""Numbers, dates, units and abbreviations as they are said. Pure.

espeak-ng, with which Piper finds its sounds, reads much of it wrongly: "$3.50" as "dollar three
point five zero", "3-5" as "three dash five", "Dr." as the end of a sentence, "2024年" as a number.
docs/speech-text.md has the list. What it reads well, plain numbers in English, is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

Say = Callable[["re.Match[str]"], str]
"""What is said instead of a match."""


@dataclass(frozen=True)
class Reading:
    """So much of a text as is said as a whole."""

    written: str
    """One word or several."""
    spoken: str
    """One word or several; empty when nothing is said."""


_STRAY_SPACE = re.compile(r" (?=[,.;:!?])")


class Reader:
    """Rules for one language. The leftmost match counts; of two at one place the first rule's.

    Args:
        rules: for each pattern what is said instead; what is said is not read again.
    """

    def __init__(self, rules: Mapping[str, Say]) -> None:
        self._rules = [(re.compile(pattern), say) for pattern, say in rules.items()]
        # each pattern is tried as a whole, so that its groups keep their numbers
        self._any = re.compile("|".join(f"(?P<r{n}>{_plain(p)})" for n, p in enumerate(rules)))

    def readings(self, text: str) -> list[Reading]:
        """How each word of a text is said, in order; words stand between spaces."""
        spoken: list[str] = []
        written: list[str] = []
        result: list[Reading] = []
        position = 0

        def add(part: str, said: str) -> None:
            written.append(part)
            spoken.append(said)

        def close() -> None:
            words = "".join(written).strip()
            if words:
                said = " ".join("".join(spoken).split())
                result.append(Reading(words, _STRAY_SPACE.sub("", said)))
            written.clear()
            spoken.clear()

        def copy(part: str) -> None:
            for piece in re.findall(r"\s+|\S+", part):
                if piece.isspace():
                    close()
                else:
                    add(piece, piece)

        for match in self._any.finditer(text):
            pattern, say = self._rules[int((match.lastgroup or "r0")[1:])]
            whole = pattern.match(text, match.start())
            assert whole is not None
            copy(text[position : match.start()])
            add(match.group(), say(whole))
            position = match.end()
        copy(text[position:])
        close()
        return result


def _plain(pattern: str) -> str:
    """Without groups that are counted."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)


def readings(text: str, language: str) -> list[Reading]:
    """How each word of a text is said.

    Args:
        text: as `clean` leaves it.
        language: of the voice, such as `en-us` or `cmn`; others than English and Chinese get each
            word as it is written.
    """
    reader = _reader(language.split("-", maxsplit=1)[0].split("_", maxsplit=1)[0].lower())
    if reader is None:
        return [Reading(word, word) for word in text.split()]
    return reader.readings(text)


@lru_cache(maxsize=8)
def _reader(language: str) -> Reader | None:
    if language == "en":
        from appliance.speech_text.english import RULES

        return Reader(RULES)
    if language in ("zh", "cmn", "yue"):
        from appliance.speech_text.chinese import RULES

        return Reader(RULES)
    return None

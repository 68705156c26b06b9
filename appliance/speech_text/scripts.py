"""Which language a text is in, and where it changes. Pure.

By writing, which tells Chinese from English at once and without a model; it cannot tell English
from French. What has no letters belongs to what stands around it.
"""

from __future__ import annotations

import re

from appliance.speech_text.gaps import CLAUSE_MARKS, STOPS, is_cjk

_LETTER = re.compile(r"[^\W\d_]")
_UNITS = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\d_]+(?:['’-][^\W\d_]+)*"
)
_SHORT = 2
"""English words that a Chinese voice says too: names and terms."""


def language_of(text: str, default: str = "en") -> str:
    """`zh` or `en`, whichever has more of the words; an ideograph is half of one.

    Args:
        text: anything.
        default: for what has no letters.
    """
    words = _UNITS.findall(text)
    chinese = sum(is_cjk(word[0]) for word in words) / 2
    if not words:
        return default
    return "zh" if chinese >= (len(words) - 2 * chinese) else "en"


def runs(text: str, default: str = "en") -> list[tuple[str, str]]:
    """Divide a text by language: [(language, text)]; the texts put together are the whole.

    One or two English words in a Chinese text, as of a name, stay in it: Chinese voices can say
    them, and every change of voice breaks the melody. English voices cannot say Chinese words.
    """
    main = language_of(text, default)
    parts: list[tuple[str, str]] = []
    start = 0
    language = ""
    for letter in _LETTER.finditer(text):
        now = "zh" if is_cjk(letter.group()) else "en"
        if language and now != language:
            cut = _opening(text, start, letter.start())
            parts.append((language, text[start:cut]))
            start = cut
        language = now
    parts.append((language or main, text[start:]))
    return _merged(
        [("zh" if main == "zh" and _is_aside(part) else kind, part) for kind, part in parts]
    )


def _opening(text: str, start: int, end: int) -> int:
    """Where a run begins whose first letter is at `end`: its digits and signs belong to it."""
    while end > start and not _LETTER.match(text[end - 1]):
        if text[end - 1] in STOPS + CLAUSE_MARKS or text[end - 1].isspace():
            break
        end -= 1
    return end


def _is_aside(part: str) -> bool:
    return part.strip()[-1:] not in tuple(STOPS) and len(_UNITS.findall(part)) <= _SHORT


def _merged(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    result: list[tuple[str, str]] = []
    for language, text in parts:
        if result and result[-1][0] == language:
            result[-1] = (language, result[-1][1] + text)
        elif text:
            result.append((language, text))
    return result

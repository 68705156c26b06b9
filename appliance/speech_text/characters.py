"""Which characters can be spoken, and by which others the rest is replaced. Pure."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_ASCII_CONTROLS = {"\t": " ", "\n": "\n", "\v": "\n", "\f": "\n", "\r": "\n"}
_KEPT_SIGNS = frozenset("°±×÷−√≈≠≤≥∞·•–—$€£¥₹₽₩¢‰½¼¾⅓⅔⅛⅜⅝⅞²³。！？，；：、؟،؛۔।॥")
_REPLACED = {
    **dict.fromkeys("‐‑⁃﹣－", "-"),
    **dict.fromkeys("‒", "–"),
    **dict.fromkeys("―⸺", "—"),
    **dict.fromkeys("’‘‚‛′＇", "'"),
    **dict.fromkeys("“”„‟«»‹›「」『』《》〈〉″〝〞", '"'),
    **dict.fromkeys("【〔〖", "["),
    **dict.fromkeys("】〕〗", "]"),
    **dict.fromkeys("〜～∼", "~"),
    **dict.fromkeys("∗⁎", "*"),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("‣◦▪●○■", "•"),
    **dict.fromkeys("⋅∙・･", "·"),
    "…": "...",
    "⋯": "...",
    "｡": "。",
    "︰": ":",
}
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Me"})
_DROPPED_CODES = (
    range(0xFE00, 0xFE10),
    range(0xE0100, 0xE01F0),
    range(0x180B, 0x180E),
    range(0x1F3FB, 0x1F400),
)
"""Variation selectors, and the colours of skin."""


def fold(text: str) -> str:
    """Replace each character by what a voice can say or pause at.

    Controls, bidi and zero-width characters vanish; emoji and other pictures become a space; wide,
    styled and circled letters and digits become plain ones; quotes and dashes become one of few.
    ASCII stays. `fold(fold(text)) == fold(text)`, and characters do not influence each other.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


class _Table:
    def __getitem__(self, code: int) -> str:
        return _fold(chr(code))


@lru_cache(maxsize=4096)
def _fold(char: str) -> str:
    if char.isascii():
        return char if char.isprintable() else _ASCII_CONTROLS.get(char, "")
    if char in _KEPT_SIGNS or char in _REPLACED:
        return _REPLACED.get(char, char)
    category = unicodedata.category(char)
    plain = unicodedata.normalize("NFKC", char)
    if category in _DROPPED_CATEGORIES or any(ord(char) in codes for codes in _DROPPED_CODES):
        return ""
    if category in ("Zl", "Zp"):
        return "\n"
    if plain != char and char not in "™®©":
        return "".join(map(_fold, plain))
    return char if category[0] in "LM" or category in ("Nd", "Nl") else " "


_TABLE = _Table()

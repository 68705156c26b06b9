"""Kinds of characters that matter wherever text is taken in or given out."""

from __future__ import annotations

import re

HAN = "\\u3400-\\u4dbf\\u4e00-\\u9fff"
"""Chinese characters, as the inside of a regular expression's brackets."""
INVISIBLE = (
    "\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff"
    "\\ufff9-\\ufffb\\ud800-\\udfff\\U000e0000-\\U000e007f"
)
"""Control characters, what turns the direction of text or hides in it, lone surrogates."""
_HAN = re.compile(f"[{HAN}]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]+")


def has_chinese(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return _HAN.search(text) is not None


def visible(text: str) -> str:
    """The text with a space in place of what cannot be seen."""
    return _INVISIBLE.sub(" ", text)

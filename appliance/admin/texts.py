"""The panel's languages: one dictionary file each, all with the same keys."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

LANGUAGES = {"en": "English", "zh": "中文"}
_FOLDER = Path(__file__).parent / "locale"


@cache
def dictionary(language: str) -> dict[str, str]:
    """All texts of a language by key."""
    texts: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def text(language: str, key: str, fallback: str = "") -> str:
    """A text; the key itself (or ``fallback``) where there is none, such as for a new reason."""
    return dictionary(language).get(key) or fallback or key


def choose(wanted: str, accepted: str) -> str:
    """The language to use.

    Args:
        wanted: what was chosen before, if anything.
        accepted: the browser's Accept-Language header.
    """
    if wanted in LANGUAGES:
        return wanted
    for part in accepted.split(",")[:20]:
        language = part.partition(";")[0].strip().partition("-")[0].lower()
        if language in LANGUAGES:
            return language
    return "en"

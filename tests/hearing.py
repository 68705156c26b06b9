"""How alike what was said and what was heard are.

A small recogniser mishears a letter now and then, and a lone word has nothing around it that would
set it right: sentences are compared, by their words, or by their letters where they are short.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

ALIKE = 0.7
"""The same sentence with a word misheard has some 0.9 of its letters, another at most 0.6."""


def words(text: str) -> list[str]:
    return re.sub(r"[^\w\s']", " ", text.lower()).split()


def overlap(said: str, heard: str) -> float:
    """Share of the words that were said and found again, in order."""
    matcher = SequenceMatcher(None, words(said), words(heard), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / max(1, len(words(said)))


def alike(said: str, heard: str) -> float:
    """From 0 to 1, by the letters."""
    return SequenceMatcher(None, " ".join(words(said)), " ".join(words(heard))).ratio()

"""Which tools a question is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appliance.mind.cache import normalise
from appliance.mind.recall import chinese_words
from appliance.mind.tools.registry import Tool


def about(question: str, tools: Iterable[Tool[Any]]) -> tuple[Tool[Any], ...]:
    """The tools that the question's words are about: offered unasked they are called wrongly.

    (docs/mind-memory.md, Tools: of 8 remarks 5 were taken for a call.)
    """
    words = _content(question)
    return tuple(tool for tool in tools if words & _subject(tool))


def _subject(tool: Tool[Any]) -> set[str]:
    return _content(f"{tool.name.replace('_', ' ')} {tool.description}")


def _content(text: str) -> set[str]:
    """The words that say what a text is about, as far as their length tells; Chinese in pairs."""
    found: set[str] = set()
    for word in normalise(text).split():
        if not word.isascii():
            found.update(pair for pair in chinese_words(word) if len(pair) > 1)
        elif len(word) > 3:
            found.add(word.rstrip("s"))
    return found

"""Role names before the lines of an answer; what a model says as the user is left out. Pure."""

from __future__ import annotations

import re

from appliance.speech_text.words import Words


def beginnings(*words: str) -> str:
    """A pattern of what may become one of some words."""
    found = {word[:length] for word in words for length in range(1, len(word) + 1)}
    return "|".join(map(re.escape, sorted(found, key=len, reverse=True)))


_ASKING = ("user", "human", "用户", "人类")
_ANSWERING = ("assistant", "system", "bot", "ai", "response", "助手", "助理", "系统")
_BETWEEN = r"(?:[^\w\n]|_){0,64}"
_ROLE = re.compile(
    rf"(?<![^\W_])(?:({'|'.join(_ASKING)})|{'|'.join(_ANSWERING)}){_BETWEEN}?[:：\n]", re.IGNORECASE
)
_UNFINISHED = re.compile(
    rf"(?<![^\W_])(?:{beginnings(*_ASKING, *_ANSWERING)}){_BETWEEN}$", re.IGNORECASE
)


class Turns:
    """Leaves out "Assistant:" before a line, and all after "User:" once something was said.

    Args:
        words: where the rest goes.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._before = ""
        """The character before the buffer."""
        self._buffer = ""
        self.ended = False
        """Whether nothing of what may follow belongs to the answer."""

    def push(self, text: str) -> None:
        """Add text without markup."""
        self._buffer += text
        self._work(final=False)

    def end(self) -> None:
        """What follows is not part of the answer, if there was one so far."""
        self._work(final=True)
        self.ended = self._words.has_spoken

    def finish(self) -> None:
        """The text is complete."""
        self._work(final=True)

    def _work(self, *, final: bool) -> None:
        while self._buffer and not self.ended:
            text, start = self._before + self._buffer, len(self._before)
            role = _ROLE.search(text, start)
            unfinished = None if final else _UNFINISHED.search(text, max(start, len(text) - 80))
            found = role or unfinished
            end = (found.start() if found else len(text)) - start
            self._words.push(self._buffer[:end])
            self._cut(end)
            if role is None:
                return
            if self._words.line_is_empty:
                self.ended = bool(role[1]) and self._words.has_spoken
                self._cut(len(role.group()))
            else:
                self._words.push(self._buffer[:1])
                self._cut(1)

    def _cut(self, end: int) -> None:
        self._before = self._buffer[:end][-1:] or self._before
        self._buffer = self._buffer[end:]

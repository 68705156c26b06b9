"""What was said in a conversation, as far as it was heard, within a bound. Pure.

The bound is in tokens, as llm reads it, and in turns. When it is reached the older half leaves at
once: if every exchange pushed out the oldest, the beginning of the prompt would change each time,
and llm would read all of it anew. What left is told in a summary, which llm writes while nobody
speaks.
"""

from __future__ import annotations

from appliance.messages import ChatMessage

SUMMARY_TOKENS = 120
_CHARACTERS_PER_TOKEN = 4.0
"""Of English; a Chinese character is about a token."""
_ASK = (
    "Write down in at most four short sentences what matters of this conversation: what the user "
    "wants to be remembered, names, numbers, and questions still open. Write facts only."
)
_LONGEST = 600
"""Characters of a message that goes into the summary's request."""


class History:
    """One session's conversation.

    Args:
        most_turns: exchanges kept word by word.
        most_tokens: of all that is kept, about.
    """

    def __init__(self, most_turns: int, most_tokens: int) -> None:
        self.most_turns = most_turns
        self._most_tokens = most_tokens
        self._messages: list[ChatMessage] = []
        self._summary = ""
        self._left: list[ChatMessage] = []
        """What has left and is in no summary yet."""

    def __bool__(self) -> bool:
        return bool(self._messages or self._summary)

    def messages(self) -> tuple[ChatMessage, ...]:
        """What llm is told before the question."""
        if not self._summary:
            return tuple(self._messages)
        told = ChatMessage("system", f"Earlier in this conversation: {self._summary}")
        return told, *self._messages

    def remember(self, question: str, answer: str) -> None:
        """An exchange is part of the conversation."""
        self._messages += [ChatMessage("user", question), ChatMessage("assistant", answer)]
        self.shorten()

    def shorten(self, most_turns: int | None = None) -> None:
        """Keep within the bounds, or within a new one."""
        if most_turns is not None:
            self.most_turns = most_turns
        turns = len(self._messages) // 2
        if turns > self.most_turns:
            self._let_go(turns - self.most_turns // 2)
        elif turns > 1 and tokens(self._messages) > self._most_tokens:
            self._let_go((turns + 1) // 2)

    def forget(self) -> None:
        """Begin anew."""
        self._messages, self._left, self._summary = [], [], ""

    def to_summarise(self) -> tuple[ChatMessage, ...]:
        """What llm is asked to write the summary of what has left; empty: nothing has."""
        if not self._left:
            return ()
        lines = [f"{m.role}: {m.text[:_LONGEST]}" for m in self._left]
        if self._summary:
            lines.insert(0, f"Before: {self._summary}")
        return ChatMessage("system", _ASK), ChatMessage("user", "\n".join(lines))

    def summarised(self, summary: str) -> None:
        """It was written."""
        self._left = []
        self._summary = " ".join(summary.split())

    def let_fall(self) -> None:
        """It could not be written: what has left is gone."""
        self._left = []

    def _let_go(self, turns: int) -> None:
        self._left += self._messages[: 2 * turns]
        self._messages = self._messages[2 * turns :]
        while len(self._left) > 2 and tokens(self._left) > self._most_tokens:
            del self._left[:2]


def tokens(messages: list[ChatMessage]) -> int:
    """About how many tokens a model makes of them; some more rather than fewer."""
    frame = 5
    return sum(frame + _text_tokens(m.text) for m in messages)


def _text_tokens(text: str) -> int:
    ascii_count = sum(c.isascii() for c in text)
    return round(ascii_count / _CHARACTERS_PER_TOKEN) + len(text) - ascii_count + 1

"""Text to answer: what llm is asked, what it answers."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from appliance.messages.base import Message


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn of a conversation as a chat model sees it."""

    role: Literal["system", "user", "assistant"]
    text: str


class Generate(Message, frozen=True, kw_only=True):
    """Asks llm for an answer. Carries the whole conversation: a restarted llm has lost nothing."""

    topic: ClassVar[str] = "llm.generate"
    session_id: str
    request_id: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    grammar: str = ""
    """GBNF that the answer must follow: text, or a tool's call as JSON."""
    spoken: bool = True
    """Whether somebody is answered; else it is a note for the conversation's own use."""


class Prepare(Message, frozen=True, kw_only=True):
    """Tells llm what the next question will follow, so that only the question is left to read."""

    topic: ClassVar[str] = "llm.prepare"
    session_id: str
    messages: tuple[ChatMessage, ...]
    question: str = ""
    """The question as far as it was heard."""
    whole: bool = False
    """It may be complete: all is read that comes before an answer's first word."""


class QuestionRead(Message, frozen=True, kw_only=True):
    """What llm thinks of a question: known long before it has written the answer's first words."""

    topic: ClassVar[str] = "llm.question"
    session_id: str
    request_id: str
    complete: float
    """As `ReplyChunk.question_complete`."""


class ReplyChunk(Message, frozen=True, kw_only=True):
    """A clause or sentence of the answer, in order, while the rest is still being written."""

    topic: ClassVar[str] = "llm.reply"
    session_id: str
    request_id: str
    index: int
    text: str
    last: bool
    received_ns: int
    """When the request arrived at llm."""
    started_ns: int = 0
    """When llm took it up: until then it had others to answer."""
    first_token_ns: int
    finished_ns: int
    """When this chunk was complete."""
    prompt_tokens: int
    cached_tokens: int
    question_complete: float | None = None
    """Probability that the question is a whole sentence, by its words."""
    call: str = ""
    """Instead of text: the tool's call that llm wrote, as JSON."""
    error: str = ""

"""Mind: what it is asked of a question, what it does, what it has to say by itself."""

from __future__ import annotations

from typing import ClassVar

from appliance.messages.base import Message


class Consider(Message, frozen=True, kw_only=True):
    """Asks mind what is to become of a question. Nothing is done before its `Commit`."""

    topic: ClassVar[str] = "conductor.consider"
    session_id: str
    request_id: str
    text: str
    in_dialogue: bool = False
    """Whether llm would be told earlier turns."""
    turn_id: str = ""
    """Questions of one turn take each other's place."""


class Considered(Message, frozen=True, kw_only=True):
    """What mind knows of a question, within some milliseconds."""

    topic: ClassVar[str] = "mind.considered"
    session_id: str
    request_id: str
    reply: str = ""
    """The answer, when llm is not needed for it."""
    acts: bool = False
    """Something is done when the turn is over: `reply` is what will be said if that works."""
    question: str = ""
    """For llm: the question, completed from what was talked about."""
    facts: str = ""
    """For llm: what it shall know for this question only, quoted data."""
    grammar: str = ""
    """For llm: GBNF of the calls it may answer with instead of text; empty: none."""
    intent: str = ""
    """What it was taken for: an intent's name or ``cache``; empty: a question for llm."""
    confidence: float = 0.0
    language: str = "en"
    received_ns: int = 0
    finished_ns: int = 0


class Commit(Message, frozen=True, kw_only=True):
    """Tells mind that the turn is over: what was considered is meant, and to be done."""

    topic: ClassVar[str] = "conductor.commit"
    session_id: str
    request_id: str
    call: str = ""
    """What llm answered under `Considered.grammar` instead of text: JSON."""
    turn_id: str = ""
    """What was done already in the same turn is not meant any more: the user went on."""


class Done(Message, frozen=True, kw_only=True):
    """What became of it, as it is to be said."""

    topic: ClassVar[str] = "mind.done"
    session_id: str
    request_id: str
    reply: str


class SpeechSettings(Message, frozen=True, kw_only=True):
    """How loud and how fast the user wants answers to be; sent on change and once a second."""

    topic: ClassVar[str] = "mind.speech"
    session_id: str
    volume_percent: int = 100
    """0 to 100, of the configured level."""
    speed: float = 1.0
    """0.5 to 2; 1 is the voice's own."""


class Ringing(Message, frozen=True, kw_only=True):
    """The timers and alarms that ring and were not silenced; sent on change, and once a second
    while something rings."""

    topic: ClassVar[str] = "mind.ringing"
    session_id: str
    ids: tuple[str, ...]
    """Empty: nothing rings any more."""
    text: str
    """What to say of them."""

"""``appliance events``: what is said on the bus, one JSON object a line, live or from a file.

For integrators who script the appliance, for whoever looks for the reason of a turn, and for the
tests, which play recorded conversations to the conductor again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import ApplianceError
from appliance.ipc.bus import subscribe, topic_of
from appliance.messages import (
    TOPICS,
    BlocksReady,
    FrontEndReport,
    Heartbeat,
    Message,
    SpeechScores,
)

_WORDLESS = frozenset(
    (
        *("asr_model", "contributions_ms", "engine", "error", "id", "ids", "intent", "language"),
        *("llm_model", "marks", "name", "open", "outcome", "overlaps", "reason", "request_id"),
        *("session_id", "source", "state", "turn_id", "utterance_id", "utterance_ids"),
    )
)
"""Fields of text that never hold what somebody said. Any other is taken to do so: who adds one must
not have to think of this place for it to stay private."""
_HIDDEN = "…"
_WAIT_MS = 200

EVENT_TOPICS = tuple(
    topic
    for topic, spec in TOPICS.items()
    if spec.message not in (BlocksReady, FrontEndReport, Heartbeat, SpeechScores)
)
"""All but what comes all the time, and what is a curve."""


def follow(
    runtime_dir: Path, topics: Iterable[str] = EVENT_TOPICS
) -> Iterator[tuple[int, Message] | None]:
    """Messages as they come, each with CLOCK_MONOTONIC ns; None when none came for a while."""
    subscription = subscribe(runtime_dir, topics)
    try:
        while True:
            message = subscription.receive(_WAIT_MS)
            yield None if message is None else (time.monotonic_ns(), message)
    finally:
        subscription.close()


def to_line(at_ns: int, message: Message, *, words: bool) -> str:
    """One message as a line of JSON.

    Args:
        at_ns: when it was received.
        message: any of the table.
        words: whether what was said is to be seen in it.
    """
    fields: dict[str, Any] = msgspec.to_builtins(message)
    if not words:
        fields = without_words(fields)
    line = {"at_ns": at_ns, "topic": topic_of(message), "message": fields}
    return msgspec.json.encode(line).decode()


def without_words(fields: dict[str, Any]) -> dict[str, Any]:
    """A message's fields, without what anybody said."""
    return {
        name: value if name in _WORDLESS or not _holds_text(value) else _hidden(value)
        for name, value in fields.items()
    }


def _hidden(value: object) -> object:
    if isinstance(value, str):
        return _HIDDEN if value else ""
    return []


def _holds_text(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_text(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_text(part) for part in value)
    return isinstance(value, str)


def read(path: Path) -> Iterator[tuple[int, Message]]:
    """The messages of a file of such lines.

    Raises:
        ApplianceError: a line is no message.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = msgspec.json.decode(line)
            kind = TOPICS[entry["topic"]].message
            yield int(entry["at_ns"]), msgspec.convert(entry["message"], kind)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise ApplianceError(f"{path}:{number}: not a recorded event: {error}") from None

"""Recorded conversations, played to the conductor again: it asks for the same, in the same order.

The files in tests/data/replays were recorded from the running appliance in its virtual room, with
``appliance events --words``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from turn_world import SETTINGS

from appliance.conductor.turns import TurnTaker
from appliance.errors import ApplianceError
from appliance.events import EVENT_TOPICS, read, to_line, without_words
from appliance.messages import (
    TOPICS,
    Cancel,
    EndOfTurn,
    Floor,
    Generate,
    Message,
    Pause,
    Release,
    Restore,
    Speak,
    Transcribe,
    TurnRecord,
)

REPLAYS = sorted((Path(__file__).parents[1] / "data" / "replays").glob("*.jsonl"))
IDS = {Transcribe: "request_id", Generate: "request_id", Speak: "utterance_id"}
TICK_NS = 250_000_000


class Replay:
    """Feeds what the others said, and keeps what the conductor makes of it."""

    def __init__(self) -> None:
        self.taker = TurnTaker("local", SETTINGS, life=1)
        self.sent: list[Message] = []
        self._ids: dict[str, str] = {}
        self._new: dict[type[Message], list[str]] = {kind: [] for kind in IDS}
        self._old: dict[type[Message], list[str]] = {kind: [] for kind in IDS}

    def recorded(self, message: Message) -> None:
        """Note an id that the conductor gave in the recording: ours stands for it."""
        self._note(self._old, message)

    def feed(self, message: Message, now_ns: int) -> None:
        for kind, old in self._old.items():
            self._ids.update(zip(old, self._new[kind], strict=False))
        changes = {
            name: self._ids.get(getattr(message, name), getattr(message, name))
            for name in ("request_id", "utterance_id")
            if hasattr(message, name)
        }
        self._take(self.taker.step(msgspec.structs.replace(message, **changes), now_ns))

    def say(self, text: str, now_ns: int) -> None:
        """A request: it does not come over the bus."""
        self._take(self.taker.say(text, now_ns)[1])

    def pass_time(self, from_ns: int, to_ns: int) -> None:
        while True:
            due_ns = self.taker.due_ns()
            due_ns = from_ns + TICK_NS if due_ns is None else max(due_ns, from_ns + 1_000_000)
            if due_ns >= to_ns:
                return
            self._take(self.taker.tick(due_ns))
            from_ns = due_ns

    def _take(self, messages: list[Message]) -> None:
        self.sent += messages
        for message in messages:
            self._note(self._new, message)

    @staticmethod
    def _note(ids: dict[type[Message], list[str]], message: Message) -> None:
        for kind, name in IDS.items():
            if isinstance(message, kind) and getattr(message, name) not in ids[kind]:
                ids[kind].append(getattr(message, name))


def story(messages: list[Message]) -> list[str]:
    """What matters of what the conductor said."""
    told = []
    for message in messages:
        match message:
            case Floor(state=state):
                told.append(state)
            case Pause() | Restore() | Release():
                told.append(type(message).__name__)
            case TurnRecord():
                overlaps = [overlap.kind for overlap in message.overlaps]
                said, answer = message.transcript, message.reply
                told.append(f"{message.outcome}: {said} -> {answer} {overlaps}")
    return told


def said(events: list[tuple[int, Message]]) -> dict[str, str]:
    """The texts that the appliance was asked to say, by utterance."""
    spoken = [message for _, message in events if isinstance(message, Speak)]
    records = [message for _, message in events if isinstance(message, TurnRecord)]
    return {
        name: " ".join(piece.text for piece in spoken if piece.utterance_id == name)
        for record in records
        if record.source == "say"
        for name in record.utterance_ids
    }


@pytest.mark.parametrize("path", REPLAYS, ids=lambda path: path.stem)
def test_a_recorded_conversation_goes_the_same_way_again(path: Path) -> None:
    replay, before_ns = Replay(), 0
    recorded: list[Message] = []
    publisher = (Transcribe, Generate, Speak, Floor, Pause, Restore, Release, TurnRecord, Cancel)
    events = list(read(path))
    to_say = said(events)
    for at_ns, message in events:
        if before_ns:
            replay.pass_time(before_ns, at_ns)
        before_ns = at_ns
        if isinstance(message, Speak) and message.utterance_id in to_say:
            replay.say(to_say.pop(message.utterance_id), at_ns)
        if isinstance(message, publisher):
            recorded.append(message)
            replay.recorded(message)
        else:
            replay.feed(message, at_ns)
    replay.pass_time(before_ns, before_ns + 20_000_000_000)
    assert story(replay.sent) == story(recorded)
    assert replay.taker.state == "idle"


def test_there_are_recordings() -> None:
    assert REPLAYS


WITHOUT_WORDS = {
    *("asr_model", "engine", "error", "id", "intent", "language", "llm_model", "name"),
    *("reason", "request_id", "session_id", "turn_id", "utterance_id"),
}


def test_no_text_of_any_message_gets_out_but_what_surely_holds_no_words() -> None:
    texts = {
        field.name
        for topic in EVENT_TOPICS
        for field in msgspec.structs.fields(TOPICS[topic].message)
        if field.type is str
    }
    assert {"text", "reply", "facts", "call", "question"} <= texts - WITHOUT_WORDS
    for name in texts - WITHOUT_WORDS:
        assert "swordfish" not in str(without_words({name: "swordfish"})), name
    assert "swordfish" not in str(without_words({"messages": [["user", "swordfish"]]}))
    assert "swordfish" not in str(without_words({"new_field": {"part": ["swordfish"]}}))


def test_words_are_left_out_unless_asked_for() -> None:
    speak = Speak(session_id="local", utterance_id="a", index=0, text="secret", last=True)
    assert "secret" not in to_line(1, speak, words=False)
    assert "secret" in to_line(1, speak, words=True)


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    event = EndOfTurn(
        session_id="local", utterance_id="u", speech_end_ns=1, probability=0.5, decided_ns=2
    )
    path = tmp_path / "events.jsonl"
    path.write_text(to_line(7, event, words=True) + "\nnonsense\n")
    events = read(path)
    assert next(events) == (7, event)
    with pytest.raises(ApplianceError, match=r"events.jsonl:2: not a recorded event"):
        next(events)

"""Tools: checked, permitted, bounded in time; what is said is what was done."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.mind.clocks import Now
from appliance.mind.sayings import length
from appliance.mind.store import StoreFullError
from appliance.mind.timers import Timers
from appliance.mind.tools import (
    Note,
    Notes,
    Registry,
    ToolError,
    calculator_tool,
    clock_tool,
    note_tools,
    places_tool,
    status_tool,
    timer_tools,
    typed_tool,
)
from appliance.mind.tools.registry import Arguments
from appliance.mind.understanding.arithmetic import calculate
from appliance.mind.understanding.arithmetic import spoken as speak_number

ALL = ("timers", "notes", "test")
LABEL: dict[Any, str] = {"en": "the test", "zh": "测试"}
SUCCESS_WORDS = ("is set", "Cancelled", "I noted", "I deleted", "fine", "done.")


class Rows:
    """A store in memory for any kind of row."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.full = False

    def all(self) -> list[Any]:
        return list(self.rows.values())

    def put(self, *records: Any) -> None:
        if self.full:
            raise StoreFullError("no room")
        self.rows.update((r.id, r) for r in records)

    def delete(self, identities: Iterable[str]) -> None:
        if self.full:
            raise StoreFullError("no room")
        for i in identities:
            self.rows.pop(i, None)

    def replace(self, gone: Iterable[str], *records: Any) -> None:
        self.delete(gone)
        self.put(*records)


class StillClock:
    boot_id = "one"

    def now(self) -> Now:
        return Now(10**12, 1_795_424_400 * 10**9)


class World:
    def __init__(self) -> None:
        self.rows = Rows()
        self.note_rows = Rows()
        self.timers = Timers(self.rows, StillClock(), "Europe/Berlin")
        self.notes = Notes(self.note_rows, lambda: 0)
        self.states = {"asr": "ready", "llm": "ready"}
        self.registry = Registry(
            [
                clock_tool(lambda: dt.datetime(2026, 11, 23, 10, 5)),
                *timer_tools(self.timers, "local"),
                calculator_tool(calculate, speak_number),
                *note_tools(self.notes, "anna"),
                status_tool(lambda: self.states),
                places_tool(["kitchen"], ["lamp"]),
            ]
        )

    def call(
        self, tool: str, /, confirmed: bool = False, language: Any = "en", **arguments: Any
    ) -> Any:
        return self.registry.call(
            tool, json.dumps(arguments), ALL, confirmed=confirmed, language=language
        )


@pytest.fixture
def world() -> World:
    return World()


class Anything(Arguments, frozen=True):
    """A tool for tests."""

    text: str = ""


def one(run: Any, say: Any = lambda value, language: "It is done.", **more: Any) -> Registry:
    return Registry([typed_tool(Anything, name="it", run=run, say=say, label=LABEL, **more)])


@pytest.mark.parametrize(
    ("name", "arguments", "spoken"),
    [
        ("clock", {}, "It is 10:05, 2026-11-23."),
        ("timer_set", {"minutes": 5}, "The timer is set for 5 minutes."),
        (
            "timer_set",
            {"minutes": 90, "name": "pasta"},
            "The pasta timer is set for 1 hour 30 minutes.",
        ),
        ("alarm_set", {"hour": 7, "repeat": "daily"}, "The alarm is set for 7:00."),
        ("timer_list", {}, "No timer or alarm is set."),
        ("timer_cancel", {"name": "pasta"}, "There is no such timer or alarm."),
        ("calculator", {"expression": "(3+4)*2.5"}, "That is 17.5."),
        ("note_add", {"text": "buy milk"}, "I noted: buy milk"),
        ("note_list", {}, "There are no notes."),
        ("system_status", {}, "Everything works."),
        ("places", {}, "I know kitchen, lamp."),
    ],
)
def test_what_is_said_comes_from_what_was_done(
    world: World, name: str, arguments: dict[str, Any], spoken: str
) -> None:
    result = world.call(name, **arguments)
    assert (result.ok, result.spoken) == (True, spoken)
    assert json.dumps(result.value)
    assert world.call(name, language="zh", **arguments).spoken != result.spoken


def test_timers_by_tool(world: World) -> None:
    world.call("timer_set", minutes=3, name="tea")
    world.call("timer_set", minutes=10, name="pasta")
    world.call("alarm_set", hour=7, minute=5)
    assert world.call("timer_list").spoken == (
        "The tea timer: 3 minutes left. The pasta timer: 10 minutes left. The alarm: at 7:05."
    )
    asked = world.call("timer_cancel", kind="timer")
    assert asked.spoken == "Which one: The tea timer (3 minutes), The pasta timer (10 minutes)?"
    assert len(world.timers.list()) == 3
    assert world.call("timer_cancel", name="tea").spoken == "Cancelled: The tea timer (3 minutes)."
    assert len(world.timers.list()) == 2


def test_notes_are_found_and_deleted_after_asking(world: World) -> None:
    world.call("note_add", text="buy milk")
    world.call("note_add", text="call Bob about the roof")
    assert world.call("note_list", about="roof").value == {"notes": ["call Bob about the roof"]}
    asked = world.call("note_delete", about="the roof")
    assert (asked.status, asked.ok) == ("unconfirmed", False)
    assert asked.spoken == "Shall I delete the note about the roof?"
    assert len(world.note_rows.rows) == 2
    assert (
        world.call("note_delete", confirmed=True, about="zebra").spoken == "There is no such note."
    )
    done = world.call("note_delete", confirmed=True, about="the roof")
    assert done.spoken == "I deleted the note: call Bob about the roof"
    assert [note.text for note in world.note_rows.rows.values()] == ["buy milk"]


def test_notes_of_others_are_not_read(world: World) -> None:
    world.notes.add("secret", "bob")
    assert world.call("note_list").value == {"notes": []}
    assert isinstance(next(iter(world.note_rows.rows.values())), Note)


def test_what_is_not_well_is_named(world: World) -> None:
    world.states["llm"] = "silent"
    assert world.call("system_status").spoken == "Not everything works: llm silent."
    world.states.clear()
    assert "Not everything" in world.call("system_status").spoken


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("rm_rf", "{}", "unknown"),
        ("", "{}", "unknown"),
        ("timer_set", "", "invalid"),
        ("timer_set", "[]", "invalid"),
        ("timer_set", '{"minutes": "five"}', "invalid"),
        ("timer_set", '{"minutes": -1}', "invalid"),
        ("timer_set", '{"minutes": 1e99}', "invalid"),
        ("timer_set", '{"minutes": 1, "extra": 2}', "invalid"),
        ("timer_set", '{"minutes": 0}', "failed"),
        ("alarm_set", '{"hour": 24}', "invalid"),
        ("alarm_set", "{}", "invalid"),
        ("calculator", '{"expression": "1/0"}', "failed"),
        ("calculator", '{"expression": "__import__(1)"}', "failed"),
        ("note_add", '{"text": "' + "x" * 100_000 + '"}', "invalid"),
        ("note_add", '{"text": "\\u0000"}', "failed"),
        ("note_add", "[" * 3000, "invalid"),
    ],
)
def test_bad_calls_do_nothing_and_claim_nothing(
    world: World, name: str, arguments: str, status: str
) -> None:
    for language in ("en", "zh"):
        result = world.registry.call(name, arguments, ALL, language=language, confirmed=True)
        assert result.status == status
        assert not result.ok
        assert result.spoken
        assert not any(word in result.spoken for word in SUCCESS_WORDS)
    assert world.rows.rows == {}
    assert world.note_rows.rows == {}


def test_without_the_permission_it_does_not_run(world: World) -> None:
    result = world.registry.call("timer_set", '{"minutes": 5}', ["notes"])
    assert result.status == "forbidden"
    assert world.timers.list() == ()
    offered = [tool.name for tool in world.registry.granted(())]
    assert offered == ["calculator", "clock", "places", "system_status", "timer_list"]


def test_a_full_disk_is_not_reported_as_success(world: World) -> None:
    world.rows.full = world.note_rows.full = True
    for name, arguments in (("timer_set", {"minutes": 5}), ("note_add", {"text": "buy milk"})):
        result = world.call(name, **arguments)
        assert result.status == "failed"
        assert "could not be stored" in result.spoken


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_tool_that_hangs_is_left_behind(gate: threading.Event) -> None:
    registry = one(lambda _: gate.wait(30), timeout_ms=50)
    start = time.monotonic()
    results = [registry.call("it", "{}", ()) for _ in range(6)]
    assert time.monotonic() - start < 2
    assert [r.status for r in results] == ["timeout"] * 4 + ["failed"] * 2
    assert "don't know" in results[0].spoken
    assert "Nothing was done" in results[-1].spoken


def test_a_tool_that_raises_has_failed() -> None:
    def fail(_: Anything) -> None:
        raise RuntimeError("secret detail")

    def refuse(_: Anything) -> None:
        raise ToolError("the lamp\x00 is\nbroken")

    assert one(fail).call("it", "{}", ()).spoken == "Sorry, the test did not work."
    refused = one(refuse).call("it", "{}", (), language="en")
    assert refused.spoken == "Sorry, the test did not work: the lamp is broken."
    unsaid = one(lambda _: {"a": 1}, say=lambda value, language: value["b"])
    assert unsaid.call("it", "{}", ()).status == "failed"


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3000),
        lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
        max_leaves=40,
    )
)
def test_results_are_bounded_and_clean(value: object) -> None:
    result = one(lambda _: value, say=lambda v, language: str(v)).call("it", "{}", ())
    assert result.ok
    assert len(result.spoken) <= 400
    text = json.dumps(result.value, ensure_ascii=False)
    assert len(text) <= 20_000
    assert not any(c in text + result.spoken for c in "\x00\x1b\u202e\n")


def test_two_tools_of_one_name_are_refused() -> None:
    registry = one(lambda _: None)
    with pytest.raises(ToolError, match="rename"):
        registry.add(
            [typed_tool(Anything, name="it", run=print, say=lambda v, lang: "", label=LABEL)]
        )


@pytest.mark.parametrize(
    ("milliseconds", "english", "chinese"),
    [
        (0, "0 seconds", "0秒"),
        (-5000, "0 seconds", "0秒"),
        (1000, "1 second", "1秒"),
        (59_600, "1 minute", "1分钟"),
        (3_661_000, "1 hour 1 minute", "1小时1分钟"),
        (7_205_000, "2 hours", "2小时"),
        (90_000_000, "1 day 1 hour", "1天1小时"),
    ],
)
def test_lengths(milliseconds: int, english: str, chinese: str) -> None:
    assert (length(milliseconds, "en"), length(milliseconds, "zh")) == (english, chinese)

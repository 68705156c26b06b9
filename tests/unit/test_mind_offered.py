"""Tools of other programs: offered where a question is about them, called as permitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mind_world import World, lamp, offered

from appliance.messages import Commit
from appliance.mind.skills import Outcome


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_tool_is_offered_only_where_the_question_is_about_it(world: World) -> None:
    offered(world, [])
    considered = world.consider("Please turn on the lamp in here")
    assert considered.grammar == "1 tools"
    assert "lamp_switch" in considered.facts
    assert world.consider("Who wrote Hamlet?").grammar == ""


def call(world: World, json: str) -> Outcome:
    considered = world.consider("Please turn on the lamp in here")
    act = world.mind.commit(Commit(session_id="local", request_id=considered.request_id, call=json))
    assert act is not None
    return act()


def test_a_call_is_done_and_told_from_its_result(world: World) -> None:
    done: list[bool] = []
    offered(world, done)
    assert call(world, '{"name": "lamp_switch", "arguments": {"on": true}}').reply == (
        "The lamp is on."
    )
    assert done == [True]


@pytest.mark.parametrize(
    "json",
    [
        "{",
        '{"name": "lamp_switch", "arguments": {"on": "maybe"}}',
        '{"name": "timer_set", "arguments": {"minutes": 5}}',
        '{"name": "note_delete", "arguments": {"about": "x"}}',
        '{"name": "rm", "arguments": {}}',
    ],
)
def test_no_tool_runs_without_its_permission(world: World, json: str) -> None:
    done: list[bool] = []
    offered(world, done)
    reply = call(world, json).reply
    assert not done
    assert world.things.timers.list() == ()
    assert reply.startswith(("I can't", "I'm not allowed", "I didn't"))


def test_a_call_that_asks_first_waits_for_the_yes(world: World) -> None:
    done: list[bool] = []
    offered(world, done, confirm=True)
    outcome = call(world, '{"name": "lamp_switch", "arguments": {"on": true}}')
    world.mind.done("local", outcome)
    assert (outcome.reply, done) == ("Shall I?", [])
    assert world.say("yes") == "The lamp is on."
    assert done == [True]


def test_a_chinese_question_is_about_a_tool_by_its_words(world: World) -> None:
    calendar = replace(lamp([]), description="读取家里的日程安排")
    world.mind.offer([calendar], lambda tools: f"{len(list(tools))} tools")
    assert world.consider("请看看我的日程安排").grammar == "1 tools"
    assert world.consider("天空为什么是蓝色的？").grammar == ""

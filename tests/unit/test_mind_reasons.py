"""Why something cannot be done is said, and in the language of who asked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mind_world import World

from appliance.mind import memory, timer_items, timers
from appliance.mind.sayings import impossible


def test_every_reason_can_be_said_in_chinese() -> None:
    reasons = [
        call.args[0].value
        for module in (memory, timer_items, timers)
        for call in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("TimerError", "MemoryLimitError")
        and isinstance(call.args[0], ast.Constant)
    ]
    assert len(reasons) > 8
    for reason in reasons:
        assert not any(c.isascii() and c.isalpha() for c in impossible(str(reason), "zh"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Set an alarm for yesterday at nine",
            "Sorry, that won't do: that time has passed already.",
        ),
        ("设一个昨天早上九点的闹钟", "抱歉，这样不行：那个时间已经过了。"),
    ],
)
def test_a_time_that_has_passed(tmp_path: Path, text: str, said: str) -> None:
    world = World(tmp_path)
    assert world.say(text) == said
    assert world.things.timers.list() == ()

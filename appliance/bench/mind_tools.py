"""Calls of tools by the language model, as mind offers them: valid ones, and right ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from appliance.bench.mind_brain import Brain
from appliance.config import Config, MindConfig
from appliance.llm.prompt import opening
from appliance.messages import ChatMessage
from appliance.mind.belongings import Belongings
from appliance.mind.making import make_mind
from appliance.mind.tools import calculator_tool, clock_tool, grammar, offer, parse
from appliance.mind.understanding.arithmetic import calculate, spoken

PERMISSIONS = ("timers", "notes")


@dataclass(frozen=True)
class Request:
    """What is said, and the call that it asks for; no tool: talk."""

    text: str
    tool: str = ""
    arguments: Mapping[str, object] | None = None


REQUESTS = (
    Request("set a timer for five minutes", "timer_set", {"minutes": 5}),
    Request("start a pasta timer for twelve minutes", "timer_set", {"minutes": 12}),
    Request("wake me at half past six", "alarm_set", {"hour": 6, "minute": 30}),
    Request("set an alarm for 7 am every workday", "alarm_set", {"hour": 7, "repeat": "workdays"}),
    Request("how long is left on my timers?", "timer_list"),
    Request("cancel the pasta timer", "timer_cancel", {"name": "pasta"}),
    Request("what time is it?", "clock"),
    Request("what's the date today?", "clock"),
    Request("what is 12 times 17?", "calculator"),
    Request("how much is 15 percent of 80?", "calculator"),
    Request("note that the plumber comes on Friday", "note_add"),
    Request("write down: buy milk and eggs", "note_add"),
    Request("read me my notes", "note_list"),
    Request("what did I note about the plumber?", "note_list"),
    Request("delete the note about milk", "note_delete"),
    Request("is everything working?", "system_status"),
    Request("which rooms do you know?", "places"),
    Request("timer for 90 seconds please", "timer_set", {"seconds": 90}),
    Request("remind me in an hour to call Bob", "timer_set", {"hours": 1}),
    Request("alarm at quarter past nine in the evening", "alarm_set", {"hour": 21, "minute": 15}),
    Request("stop all alarms", "timer_cancel"),
    Request("what is the square of 25 minus 5?", "calculator"),
    Request("why is the sky blue?"),
    Request("tell me a joke"),
    Request("what is the capital of Italy?"),
    Request("who wrote Hamlet?"),
    Request("how are you?"),
    Request("what is a black hole?"),
    Request("thank you"),
    Request("recommend me a book"),
)


def measure(brain: Brain) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Each request with every shipped tool offered, under the grammar of them all."""
    with TemporaryDirectory(prefix="va-") as folder:
        settings = MindConfig(data_dir=str(Path(folder) / "mind"), time_zone="UTC")
        config = Config(mind=settings)
        things = Belongings.open(config)
        try:
            registry = make_mind(config, things, {}, lambda: {"llm": "ready"}).registry
            registry.add((clock_tool(things.now), calculator_tool(calculate, spoken)))
            return _measured(brain, registry)
        finally:
            things.close()


def _measured(brain: Brain, registry: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:  # noqa: ANN401
    tools = registry.granted(PERMISSIONS)
    rules, llm = grammar(tools), brain.config.llm
    opened = opening(llm.system_prompt, llm.model)
    calls = valid = choice = right = 0
    wrong: list[dict[str, Any]] = []
    for request in REQUESTS:
        text, call = brain.mind.generate(
            (*opened, ChatMessage("user", f"{request.text}\n{offer(tools, request.text)}")),
            max_tokens=60,
            grammar=rules,
        )
        parsed = parse(call) if call else None
        name, arguments = "", {}
        if parsed is not None:
            calls += 1
            name, arguments = parsed.name, json.loads(bytes(parsed.arguments))
            result = registry.call(name, bytes(parsed.arguments), PERMISSIONS, confirmed=True)
            valid += result.status not in ("invalid", "unknown", "forbidden")
        chosen = name == request.tool
        wanted = (request.arguments or {}).items()
        exact = chosen and all(arguments.get(key) == value for key, value in wanted)
        choice += chosen
        right += exact and bool(request.tool)
        if not exact:
            wrong.append({"request": request.text, "said": text, "call": call})
    asking = sum(bool(request.tool) for request in REQUESTS)
    figures = {
        "tool_requests": len(REQUESTS),
        "tool_calls": calls,
        "tool_calls_valid_share": round(valid / max(calls, 1), 3),
        "tool_right_choice_share": round(choice / len(REQUESTS), 3),
        "tool_right_call_share": round(right / asking, 3),
    }
    return figures, wrong

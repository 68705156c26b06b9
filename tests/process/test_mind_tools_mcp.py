"""MCP servers as real processes: one that keeps to the protocol, and every kind that does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from appliance.mind.tools import McpClient, McpServer, Registry, ToolError, grammar

SCRIPT = Path(__file__).with_name("mcp_server.py")
Connect = Callable[..., McpClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[McpClient] = []

    def make(mode: str = "good", *, confirm: frozenset[str] = frozenset()) -> McpClient:
        server = McpServer(
            name="home",
            command=(sys.executable, "-I", str(SCRIPT), mode),
            tools=frozenset({"weather", "lock", "odd"}),
            confirm=confirm,
            timeout_ms=1500,
        )
        clients.append(McpClient(server))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    assert servers() == []


def servers() -> list[int]:
    """The server processes that this one has."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if str(SCRIPT) in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def test_nothing_is_started_before_it_is_needed(connect: Connect) -> None:
    client = connect()
    assert servers() == []
    client.tools()
    assert len(servers()) == 1


def test_only_allowed_tools_exist(connect: Connect) -> None:
    client = connect()
    tools = {tool.name: tool for tool in client.tools()}
    assert set(tools) == {"home_weather", "home_lock", "home_odd"}
    assert tools["home_weather"].description.startswith("Weather of a")
    assert len(tools["home_weather"].description) <= 200
    assert "\x1b" not in tools["home_weather"].description
    assert tools["home_odd"].schema["properties"] == {
        "x": {"type": "string"},
        "unit": {"enum": ["metric", "imperial"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "far": {"type": "string"},
    }
    assert "home_weather" in grammar(tools.values())
    with pytest.raises(ToolError, match="not allowed"):
        client.call("wipe", {})


def test_through_the_registry(connect: Connect) -> None:
    registry = Registry(connect(confirm=frozenset({"lock"})).tools())

    def call(name: str, arguments: str, **more: bool) -> tuple[str, str]:
        result = registry.call(name, arguments, ["mcp:home"], **more)
        return result.status, result.spoken

    status, spoken = call("home_weather", '{"place": "Rome"}')
    assert (status, spoken.split(",")[0]) == ("done", "home says: sunny in Rome")
    assert call("home_weather", '{"place": "Atlantis"}') == (
        "failed",
        "Sorry, home did not work: no such place.",
    )
    assert call("home_weather", '{"place": "nowhere"}')[1] == (
        "Sorry, home did not work: broken [0m."
    )
    for wrong in ("{}", '{"place": 5}', '{"place": "x", "days": true}', '{"place": "x", "y": 1}'):
        assert call("home_weather", wrong)[0] == "invalid"
    assert call("home_lock", "{}") == ("unconfirmed", "Shall home do this: lock?")
    assert call("home_lock", "{}", confirmed=True)[0] == "done"
    assert call("home_odd", '{"unit": "metric", "tags": ["a"]}')[0] == "done"
    assert call("home_odd", '{"unit": "other"}')[0] == "invalid"
    assert registry.call("home_weather", '{"place": "Rome"}', ["timers"]).status == "forbidden"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("silent", "did not answer in time"),
        ("dies", "it ended"),
        ("flood", "sent too much"),
        ("huge line", "sent too much"),
        ("wrong ids", "did not answer in time"),
        ("pings", "sent too much|did not answer in time"),
        ("result of another kind", "reported an error"),
    ],
)
def test_a_hostile_server_costs_its_time_and_no_more(
    connect: Connect, mode: str, reason: str
) -> None:
    client = connect(mode)
    client.tools()
    (first,) = servers()
    start = time.monotonic()
    with pytest.raises(ToolError, match=reason):
        client.call("weather", {"place": "Rome"})
    assert time.monotonic() - start < 4
    if "error" not in reason:
        assert servers() == []
        client.tools()  # and a new one is started when it is needed
        assert servers() != [first]


def test_a_server_that_never_reads_again(connect: Connect) -> None:
    client = connect("deaf")
    assert client.call("weather", {"place": "Rome"}) == "once"
    with pytest.raises(ToolError, match="did not answer in time"):
        client.call("weather", {"place": "x" * 1_000_000})
    assert servers() == []


@pytest.mark.parametrize("mode", ["garbage", "content of another kind"])
def test_what_is_no_message_is_skipped(connect: Connect, mode: str) -> None:
    text = connect(mode).call("weather", {"place": "Rome"})
    assert text == ("after the garbage" if mode == "garbage" else "")


def test_a_command_that_does_not_exist(connect: Connect) -> None:
    client = McpClient(McpServer(name="none", command=("/nonexistent",), tools=frozenset({"x"})))
    with pytest.raises(ToolError, match=r"it ended|does not work"):
        client.tools()
    client.close()


def test_what_a_server_started_ends_with_it(connect: Connect) -> None:
    client = connect("child")
    child = psutil.Process(int(client.call("weather", {"place": "Rome"})))
    client.close()
    child.wait(timeout=5)


def test_servers_end_when_their_process_is_killed() -> None:
    """Though the thread in which it was started is long gone by then."""
    script = f"""
import sys, threading, time
from appliance.mind.tools import McpClient, McpServer
client = McpClient(McpServer(name="home", command=({sys.executable!r}, "-I", {str(SCRIPT)!r}),
                             tools=frozenset({{"weather"}})))
out = []
for place in ("Rome", "Oslo"):
    caller = threading.Thread(target=lambda: out.append(client.call("weather", {{"place": place}})))
    caller.start()
    caller.join()
sys.stdout.write(" ".join(text.split()[-1] for text in out) + "\\n")
sys.stdout.flush()
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    first, second = map(int, process.stdout.readline().split())
    assert first == second, "the server ended with the thread that called it"
    server = psutil.Process(first)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    server.wait(timeout=5)

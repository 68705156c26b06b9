"""Tools of local Model Context Protocol servers: only those that the configuration allows.

JSON-RPC 2.0, one message a line, over the server's stdin and stdout (MCP specification 2025-06-18,
"stdio"). The official SDK is not used: its import takes 0.9 s and 60 MB for what is needed here.

A server is a program of somebody else. It is started when first needed, read only while an answer
is awaited (so it cannot make us work: its pipe fills up), bounded in time and bytes, and killed as
soon as it misses its time or breaks the protocol; the next call starts it anew.
"""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from appliance.mind.sayings import clean, phrase
from appliance.mind.tools.registry import Language, Tool, ToolError

logger = logging.getLogger(__name__)

PROTOCOL_VERSION = "2025-06-18"
_MAX_LINE_BYTES = 1_000_000
_MAX_CALL_BYTES = 4_000_000
_MAX_TOOLS_PAGES = 10
_MAX_DESCRIPTION = 200
_MAX_PROPERTIES = 16
_MAX_CHOICES = 30
_READ_BYTES = 65_536
_START_TIMEOUT_MS = 10_000
_METHOD_NOT_FOUND = -32601
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ")
_LAUNCHER = (
    "import ctypes,os,signal,sys;ctypes.CDLL(None).prctl(1,signal.SIGKILL);"
    "os.execvp(sys.argv[1],sys.argv[1:])"
)
"""Has the kernel end the server when the appliance's process dies, however it dies (prctl(2))."""

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class McpServer:
    """One server as it is configured."""

    name: str
    """Short; begins the names of its tools."""
    command: tuple[str, ...]
    """Program and arguments; no shell."""
    tools: frozenset[str]
    """Those of its tools that may be used."""
    confirm: frozenset[str] = frozenset()
    """Those that the user must say yes to each time."""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_ms: int = 5000

    @property
    def permission(self) -> str:
        """What a caller must have been granted."""
        return f"mcp:{self.name}"


class McpClient:
    """Talks to one server. Threads may share it: one call at a time.

    Args:
        server: its configuration.
    """

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._received = 0
        self._last_id = 0

    def tools(self) -> tuple[Tool[dict[str, Any]], ...]:
        """The allowed tools that the server offers; starts it. Takes time: not for a loop.

        Raises:
            ToolError: the server cannot be started or does not keep to the protocol.
        """
        found: list[Tool[dict[str, Any]]] = []
        cursor: dict[str, str] = {}
        deadline_ns = _deadline(_START_TIMEOUT_MS)
        with self._lock:
            for _ in range(_MAX_TOOLS_PAGES):
                page = self._request("tools/list", cursor, deadline_ns)
                offered = page.get("tools")
                found += [self._tool(o) for o in offered or () if self._allowed(o)]
                if not isinstance(page.get("nextCursor"), str):
                    break
                cursor = {"cursor": page["nextCursor"]}
        return tuple({tool.name: tool for tool in found}.values())

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """The text that a tool answers with.

        Raises:
            ToolError: it is not allowed, failed, or the server misbehaved.
        """
        if tool not in self.server.tools:
            raise ToolError("that is not allowed")
        deadline_ns = _deadline(self.server.timeout_ms)
        if not self._lock.acquire(timeout=self.server.timeout_ms / 1000):
            raise ToolError(f"{self.server.name} is busy")
        try:
            result = self._request(
                "tools/call", {"name": tool, "arguments": arguments}, deadline_ns
            )
        finally:
            self._lock.release()
        content = result.get("content")
        texts = [
            part["text"]
            for part in (content if isinstance(content, list) else ())
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        if result.get("isError"):
            raise ToolError(clean(" ".join(texts), _MAX_DESCRIPTION) or "it reported an error")
        return "\n".join(texts)

    def close(self) -> None:
        """End the server and what it started."""
        process, self._process = self._process, None
        self._buffer.clear()
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    # --- what a tool is ---

    def _allowed(self, offered: object) -> bool:
        return isinstance(offered, dict) and offered.get("name") in self.server.tools

    def _tool(self, offered: Mapping[str, Any]) -> Tool[dict[str, Any]]:
        name = str(offered["name"])
        schema = _usable_schema(offered.get("inputSchema"))
        label = self.server.name

        def say(value: Any, language: Language) -> str:  # noqa: ANN401
            key = "answered" if value["text"] else "empty"
            return phrase(key, language, label=label, text=value["text"])

        def ask(arguments: dict[str, Any], language: Language) -> str:
            said = ", ".join(f"{k}: {v}" for k, v in arguments.items())
            return phrase("confirm_call", language, label=label, what=f"{name} {said}".strip())

        return Tool(
            name=re.sub(r"\W+", "_", f"{self.server.name}_{name}").lower(),
            description=clean(str(offered.get("description") or name), _MAX_DESCRIPTION),
            schema=schema,
            decode=lambda data: _checked(data, schema),
            run=lambda arguments: {"text": self.call(name, arguments)},
            say=say,
            label={"en": label, "zh": label},
            permission=self.server.permission,
            # the call itself ends in time; this one only bounds what should not happen
            timeout_ms=self.server.timeout_ms + _START_TIMEOUT_MS,
            confirm=ask if name in self.server.confirm else None,
        )

    # --- the protocol ---

    def _request(self, method: str, params: Mapping[str, Any], deadline_ns: int) -> dict[str, Any]:
        """The result of a request; whatever goes wrong ends the server."""
        try:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._start()
            return self._exchange(method, params, deadline_ns)
        except ToolError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            self._give_up(f"it does not work ({type(error).__name__})")

    def _start(self) -> None:
        self._process = _spawn(self.server)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        deadline_ns = _deadline(_START_TIMEOUT_MS)
        client = {"name": "voice-appliance", "version": "1"}
        greeting = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": client}
        self._exchange("initialize", greeting, deadline_ns)
        self._send({"method": "notifications/initialized"}, deadline_ns)

    def _exchange(self, method: str, params: Mapping[str, Any], deadline_ns: int) -> dict[str, Any]:
        self._last_id += 1
        self._received = 0
        self._send({"id": self._last_id, "method": method, "params": params}, deadline_ns)
        while True:
            message = self._receive(deadline_ns)
            if "method" in message:
                self._refuse(message, deadline_ns)
            elif message.get("id") == self._last_id:
                break
        if isinstance(result := message.get("result"), dict):
            return result
        error = message.get("error")
        text = error.get("message") if isinstance(error, dict) else None
        raise ToolError(clean(str(text or "it reported an error"), _MAX_DESCRIPTION))

    def _refuse(self, message: Mapping[str, Any], deadline_ns: int) -> None:
        """Answer what a server asks of its client: a ping with a pong, all else with no."""
        if "id" not in message:
            return
        if message["method"] == "ping":
            answer: dict[str, Any] = {"result": {}}
        else:
            answer = {"error": {"code": _METHOD_NOT_FOUND, "message": "not offered"}}
        self._send({"id": message["id"], **answer}, deadline_ns)

    def _send(self, message: Mapping[str, Any], deadline_ns: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        rest = memoryview(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")
        while rest:
            self._await(pipe, select.POLLOUT, deadline_ns)
            with suppress(BlockingIOError):
                rest = rest[os.write(pipe, rest[: select.PIPE_BUF]) :]

    def _receive(self, deadline_ns: int) -> dict[str, Any]:
        """The next message that is one; other lines (a server that prints) are skipped."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
                    message = msgspec.json.decode(line)
                    if isinstance(message, dict):
                        return message
                continue
            if len(self._buffer) > _MAX_LINE_BYTES or self._received > _MAX_CALL_BYTES:
                self._give_up("it sent too much")
            self._await(pipe, select.POLLIN, deadline_ns)
            data = os.read(pipe, _READ_BYTES)
            if not data:
                self._give_up("it ended")
            self._received += len(data)
            self._buffer += data

    def _await(self, pipe: int, event: int, deadline_ns: int) -> None:
        left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        poll = select.poll()
        poll.register(pipe, event)
        if left_ms <= 0 or not poll.poll(left_ms):
            self._give_up("it did not answer in time")

    def _give_up(self, why: str) -> NoReturn:
        logger.warning("server %s: %s; it is ended", self.server.name, why)
        self.close()
        raise ToolError(f"{self.server.name}: {why}")


def _spawn(server: McpServer) -> subprocess.Popen[bytes]:
    """Start a server from a thread that lives as long as it.

    The kernel's signal on the parent's death is tied to the thread that forked.
    """
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, *server.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                    **server.environment,
                },
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=keep, name=f"mcp-{server.name}", daemon=True).start()
    ready.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]


def _deadline(timeout_ms: int) -> int:
    return time.monotonic_ns() + timeout_ms * 1_000_000


def _usable_schema(schema: object) -> dict[str, Any]:
    """What of a server's schema is of use here: names, simple types, choices, requirements.

    The server checks the rest; nothing of it reaches a prompt or a grammar.
    """
    properties = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    usable = {
        name: _usable_type(kind)
        for name, kind in (properties if isinstance(properties, dict) else {}).items()
        if re.fullmatch(r"[\w.-]{1,40}", name)
    }
    return {
        "type": "object",
        "properties": dict(list(usable.items())[:_MAX_PROPERTIES]),
        "required": [n for n in (required if isinstance(required, list) else ()) if n in usable],
        "additionalProperties": False,
    }


def _usable_type(described: object) -> dict[str, Any]:
    kind = described.get("type") if isinstance(described, dict) else None
    choices = described.get("enum") if isinstance(described, dict) else None
    if isinstance(choices, list) and 0 < len(choices) <= _MAX_CHOICES:
        texts = [choice for choice in choices if isinstance(choice, str)]
        if len(texts) == len(choices) and all(re.fullmatch(r"[\w .-]{1,40}", t) for t in texts):
            return {"enum": texts}
    if kind == "array":
        return {"type": "array", "items": {"type": "string"}}
    return {"type": kind if isinstance(kind, str) and kind in _TYPES else "string"}


def _checked(data: bytes, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that fit a schema's names, requirements and simple types.

    Raises:
        ValueError: they do not; the server checks the rest.
    """
    arguments = msgspec.json.decode(data, type=dict[str, Any])
    known, required = schema["properties"], schema["required"]
    if set(arguments) - set(known) or set(required) - set(arguments):
        raise ValueError("unknown or missing argument")
    for name, value in arguments.items():
        if "enum" in known[name]:
            fits = value in known[name]["enum"]
        else:
            kind = known[name]["type"]
            fits = isinstance(value, _TYPES[kind]) and (
                kind == "boolean" or not isinstance(value, bool)
            )
        if not fits:
            raise ValueError("argument of another kind")
    return arguments

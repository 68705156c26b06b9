"""The tools that the language model and the intents may call: typed, permitted, bounded, truthful.

What is said after a call is made from what the tool returned. A call that was refused, failed or
did not end in time says so; no sentence that claims success is ever made without a result.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from appliance.errors import ApplianceError
from appliance.mind.sayings import clean, phrase

logger = logging.getLogger(__name__)

MAX_ARGUMENTS_LENGTH = 4000
MAX_VALUE_LENGTH = 4000
MAX_SPOKEN_LENGTH = 400
_MAX_RUNNING = 4

Language = Literal["en", "zh"]
Status = Literal["done", "failed", "timeout", "invalid", "unknown", "forbidden", "unconfirmed"]


class ToolError(ApplianceError):
    """A tool could not do what it was asked; the message is spoken."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the parameters of shipped tools."""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call."""

    tool: str
    status: Status
    value: Any = None
    """What the tool returned, for the model: plain data, bounded, without control characters."""
    spoken: str
    """A sentence that says it, whatever became of it."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status == "done"


A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Tool(Generic[A]):
    """One thing that can be done.

    Args:
        name: lower-case letters, digits and underscores.
        description: one line for the language model.
        schema: JSON schema of the arguments (an object).
        decode: arguments from JSON; raises `msgspec.ValidationError` for what does not fit.
        run: does it, in a thread of its own; returns plain data; raises `ToolError`.
        say: the sentence for a result, by language.
        permission: what the caller must have been granted; empty: nothing.
        timeout_ms: the longest that is waited for it.
        confirm: makes the question that the user must have said yes to; None: no need to ask.
        label: what it is called when it failed, by language.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    decode: Callable[[bytes], A]
    run: Callable[[A], Any]
    say: Callable[[Any, Language], str]
    label: Mapping[Language, str]
    permission: str = ""
    timeout_ms: int = 1000
    confirm: Callable[[A, Language], str] | None = None


S = TypeVar("S", bound=Arguments)


def typed_tool(
    parameters: type[S],
    *,
    name: str,
    run: Callable[[S], Any],
    say: Callable[[Any, Language], str],
    label: Mapping[Language, str],
    permission: str = "",
    timeout_ms: int = 1000,
    confirm: Callable[[S, Language], str] | None = None,
) -> Tool[S]:
    """A tool whose parameters are a struct; its docstring describes the tool to the model."""
    return Tool(
        name=name,
        description=inspect.cleandoc(parameters.__doc__ or "").splitlines()[0],
        schema=object_schema(parameters),
        decode=msgspec.json.Decoder(parameters).decode,
        run=run,
        say=say,
        label=label,
        permission=permission,
        timeout_ms=timeout_ms,
        confirm=confirm,
    )


def object_schema(parameters: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a flat struct, without references."""
    (reference,), definitions = msgspec.json.schema_components([parameters], ref_template="{name}")
    found = definitions[reference["$ref"]]
    return {key: value for key, value in found.items() if key not in ("title", "description")}


class Registry:
    """Every tool by its name. Threads may share it.

    Args:
        tools: what there is; a name may occur once.
    """

    def __init__(self, tools: Iterable[Tool[Any]] = ()) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        self._running = threading.Semaphore(_MAX_RUNNING)
        self.add(tools)

    def add(self, tools: Iterable[Tool[Any]]) -> None:
        """Take more tools.

        Raises:
            ToolError: a name is taken.
        """
        for tool in tools:
            if tool.name in self._tools:
                raise ToolError(f"two tools are called {tool.name}: rename one")
            self._tools[tool.name] = tool

    def granted(self, permissions: Iterable[str]) -> tuple[Tool[Any], ...]:
        """What may be called with these permissions, sorted by name: to be told to the model."""
        held = {"", *permissions}
        allowed = (tool for tool in self._tools.values() if tool.permission in held)
        return tuple(sorted(allowed, key=lambda tool: tool.name))

    def call(
        self,
        name: str,
        arguments_json: str | bytes,
        granted: Iterable[str],
        *,
        language: Language = "en",
        confirmed: bool = False,
    ) -> ToolResult:
        """Do it, or say why not. Never raises; returns within the tool's ``timeout_ms``.

        Waits in the caller's thread for the tool's own: call it from a worker's job, never from a
        loop that must come round.

        Args:
            name: of the tool, as the model gave it.
            arguments_json: its arguments as JSON, as the model gave them.
            granted: the permissions of whoever is served.
            language: of the sentence.
            confirmed: the user has said yes to this very call.
        """
        tool = self._tools.get(name)
        if tool is None:
            return _not_done(clean(name, 60), "unknown", phrase("unknown", language))
        if tool.permission and tool.permission not in set(granted):
            return _not_done(tool.name, "forbidden", _about(tool, "forbidden", language))
        try:
            arguments = _decode(tool, arguments_json)
        except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError) as error:
            logger.info("%s: arguments refused: %s", tool.name, type(error).__name__)
            return _not_done(tool.name, "invalid", _about(tool, "invalid", language))
        if tool.confirm is not None and not confirmed:
            question = clean(tool.confirm(arguments, language), MAX_SPOKEN_LENGTH)
            return _not_done(tool.name, "unconfirmed", question)
        return self._run(tool, arguments, language)

    def _run(self, tool: Tool[Any], arguments: object, language: Language) -> ToolResult:
        """In a thread that is left behind when it does not end: Python cannot stop one."""
        if not self._running.acquire(blocking=False):
            return _not_done(tool.name, "failed", _about(tool, "busy", language))
        outcome: list[ToolResult] = []

        def work() -> None:
            try:
                outcome.append(_perform(tool, arguments, language))
            finally:
                self._running.release()

        thread = threading.Thread(target=work, name=f"tool-{tool.name}", daemon=True)
        thread.start()
        thread.join(tool.timeout_ms / 1000)
        if outcome:
            return outcome[0]
        logger.warning("%s did not end within %d ms", tool.name, tool.timeout_ms)
        return _not_done(tool.name, "timeout", _about(tool, "timeout", language))


def _decode(tool: Tool[A], arguments_json: str | bytes) -> A:
    data = arguments_json.encode() if isinstance(arguments_json, str) else arguments_json
    if len(data) > MAX_ARGUMENTS_LENGTH:
        raise ValueError("too long")
    return tool.decode(data)


def _perform(tool: Tool[Any], arguments: object, language: Language) -> ToolResult:
    try:
        value = bounded(msgspec.to_builtins(tool.run(arguments)))
        spoken = clean(tool.say(value, language), MAX_SPOKEN_LENGTH)
    except ToolError as error:
        reason = clean(str(error), MAX_SPOKEN_LENGTH)
        spoken = phrase("failed_because", language, what=tool.label[language], why=reason)
        return _not_done(tool.name, "failed", spoken)
    except Exception:
        logger.exception("%s failed", tool.name)
        return _not_done(tool.name, "failed", _about(tool, "failed", language))
    return ToolResult(tool=tool.name, status="done", value=value, spoken=spoken)


def bounded(value: object, room: int = MAX_VALUE_LENGTH) -> object:
    """Plain data with clean texts, cut where it grows beyond ``room`` characters in all."""
    if isinstance(value, str):
        return clean(value, room)
    if isinstance(value, Mapping):
        return dict(_within(((clean(str(k), 60), v) for k, v in value.items()), room))
    if isinstance(value, (list, tuple)):
        return [v for _, v in _within((("", v) for v in value), room)]
    return value


def _within(items: Iterable[tuple[str, object]], room: int) -> Iterable[tuple[str, object]]:
    for key, item in items:
        if room <= 0:
            return
        small = bounded(item, room)
        room -= len(key) + len(str(small)) + 2
        yield key, small


def _about(tool: Tool[Any], key: str, language: Language) -> str:
    return phrase(key, language, what=tool.label[language])


def _not_done(name: str, status: Status, spoken: str) -> ToolResult:
    return ToolResult(tool=name, status=status, spoken=spoken)

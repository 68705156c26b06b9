"""How a language model may answer: in plain text, or with exactly one call of a tool.

The constraint is a grammar (GBNF) for llama.cpp, made with its own converter from JSON schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from appliance.mind.tools.registry import Tool

_UNROLLED = ("minLength", "maxLength", "minItems", "maxItems", "default", "description", "title")
_PLAIN_TEXT = r"[^{\[<`\x00-\x09\x0B-\x1F] [^{}<`\x00-\x09\x0B-\x1F]*"
"""Text for speaking: does not begin like a call, and holds none."""


class ToolCall(msgspec.Struct, frozen=True):
    """What the model wants done. To be checked by `Registry.call` like anything from outside."""

    name: str
    arguments: msgspec.Raw


_call_decoder = msgspec.json.Decoder(ToolCall)


def call_schema(tools: Iterable[Tool[Any]]) -> dict[str, Any]:
    """JSON schema of one call of any of the tools: ``{"name": ..., "arguments": {...}}``."""
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.name},
                    "arguments": _shape(tool.schema),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for tool in tools
        ]
    }


def grammar(tools: Iterable[Tool[Any]]) -> str:
    """GBNF that lets a model either speak or make one call; without tools it can only speak.

    Imports llama_cpp: call it where that is loaded, or once and keep the text.
    """
    schema = call_schema(tools)
    if not schema["oneOf"]:
        return f"root ::= {_PLAIN_TEXT}\n"
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    rules = json_schema_to_gbnf(json.dumps(schema))
    call = re.sub(r"^root ::=", "call ::=", rules, count=1, flags=re.MULTILINE)
    return f"root ::= call | text\ntext ::= {_PLAIN_TEXT}\n{call}\n"


def parse(answer: str) -> ToolCall | None:
    """The call in a finished answer; None when it is text."""
    try:
        return _call_decoder.decode(answer.strip().encode())
    except (msgspec.DecodeError, UnicodeError):
        return None


def _shape(schema: object) -> object:
    """The schema without bounds on length: the converter would unroll them into huge rules.

    The answer's bound in tokens holds here, and `Registry.call` checks the rest.
    """
    if isinstance(schema, Mapping):
        return {key: _shape(value) for key, value in schema.items() if key not in _UNROLLED}
    if isinstance(schema, (list, tuple)):
        return [_shape(value) for value in schema]
    return schema

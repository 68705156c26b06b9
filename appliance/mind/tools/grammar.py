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

_LEFT_OUT = ("minItems", "maxItems", "default", "description", "title")
_MAX_STRING = 120
"""Characters of a text that a model may write into an argument."""
_MAX_LISTED = 100
"""Numbers of a range that is written out."""
_PLACE = re.compile(r'"\\"@(?P<kind>digits|string) (?P<bound>\d+)\\""')
_CHARACTER = r'character ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})'
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
    rules = re.sub(r"^root ::=", "call ::=", rules, count=1, flags=re.MULTILINE)
    rules = _PLACE.sub(_bounded_rule, rules)
    return f"root ::= call | text\ntext ::= {_PLAIN_TEXT}\n{_CHARACTER}\n{rules}\n"


def offer(tools: Iterable[Tool[Any]], question: str) -> str:
    """What a model is told of tools behind a question: how one is called, and the question again.

    Small models call nothing without the form in front of them, and fill the arguments from
    elsewhere when a list stands between the question and the answer.
    """
    offered = "\n".join(f"- {tool.name}: {tool.description}" for tool in tools)
    return (
        "If one of these tools does it, answer with its call alone, such as "
        '{"name": "...", "arguments": {}}; if none does, answer in words:\n'
        f"{offered}\nI asked: {question}"
    )


def parse(answer: str) -> ToolCall | None:
    """The call in a finished answer; None when it is text, or a call that was cut off.

    Text never begins with "{" under the grammar, so what does is not to be spoken in any case.
    """
    try:
        return _call_decoder.decode(answer.strip().encode())
    except (msgspec.DecodeError, UnicodeError):
        return None


def _shape(schema: object) -> object:
    """The schema as the converter should see it, bounds as values or as places to fill in.

    It knows no ranges of numbers, and would unroll the length of a text into a huge rule.
    """
    if isinstance(schema, Mapping):
        low, high = schema.get("minimum"), schema.get("maximum")
        if schema.get("type") == "string" and "enum" not in schema:
            length = min(schema.get("maxLength", _MAX_STRING), _MAX_STRING)
            return {"const": f"@string {length}"}
        if schema.get("type") == "integer" and isinstance(low, int) and isinstance(high, int):
            if high - low <= _MAX_LISTED:
                return {"enum": list(range(low, high + 1))}
            return {"const": f"@digits {len(str(high)) - 1}"}
        return {key: _shape(value) for key, value in schema.items() if key not in _LEFT_OUT}
    if isinstance(schema, (list, tuple)):
        return [_shape(value) for value in schema]
    return schema


def _bounded_rule(place: re.Match[str]) -> str:
    bound = min(int(place["bound"]), _MAX_STRING)
    if place["kind"] == "digits":
        return f'("0" | [1-9] [0-9]{{0,{bound}}})'
    return f'"\\"" character{{0,{bound}}} "\\""'

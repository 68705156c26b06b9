"""What is wrong with a configuration, told with file, line and key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from appliance.config.places import ENV_PREFIX
from appliance.config.whole import Config


def explain(
    error: ValidationError, environment: dict[str, Any], files: list[tuple[Path, dict[str, Any]]]
) -> str:
    """One line per mistake: where it stands (whoever won), which key, what is wrong."""
    lines = []
    for item in error.errors(include_url=False):
        keys = [str(part) for part in item["loc"]]
        if _has(environment, keys) and keys:
            where = f"environment variable {ENV_PREFIX}{'__'.join(keys).upper()}"
        else:
            path = next((path for path, table in files if _has(table, keys)), files[0][0])
            where = f"{path}:{_line_of(path, keys)}"
        what = item["msg"]
        if item["type"] == "extra_forbidden":
            what = f"unknown key{_suggestion(keys)}"
        lines.append(f"{where}: {'.'.join(keys) or 'configuration'}: {what}")
    return "\n".join(lines)


def _has(table: dict[str, Any], keys: list[str]) -> bool:
    node: Any = table
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _line_of(path: Path, keys: list[str]) -> int:
    """Line of the key, or of the innermost table around it that has a line of its own."""
    section: list[str] = []
    found, depth = 1, 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if match := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            here = section = _dotted(match.group(1))
        elif match := re.match(r"\s*([\w\-\"'.\s]+?)\s*=", line):
            here = section + _dotted(match.group(1))
        else:
            continue
        if depth < len(here) <= len(keys) and here == keys[: len(here)]:
            found, depth = number, len(here)
    return found


def _dotted(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in key.split(".")]


def _suggestion(keys: list[str]) -> str:
    model: type[BaseModel] = Config
    for key in keys[:-1]:
        annotation = model.model_fields[key].annotation
        model = cast("type[BaseModel]", annotation)
    close = difflib.get_close_matches(keys[-1], model.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(model.model_fields)}"

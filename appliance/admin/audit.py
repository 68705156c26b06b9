"""Who changed what, and when: JSON lines in the data folder. Never a password, code or token."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
_VALUE_CHARACTERS = 200
REFUSED = frozenset({"sign_in_failed"})
"""What anybody can cause: kept in a file of its own, so that no flood of it pushes out the rest."""


class Audit:
    """The file, one for what was refused, and their predecessors when they have grown too large.

    Args:
        folder: of the panel's data.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "audit.jsonl"
        self._refused_path = folder / "refused.jsonl"
        self._lock = threading.Lock()

    def note(self, who: str, action: str, **what: object) -> None:
        """Add a line. That it cannot be written is logged, and stops nobody.

        Args:
            who: the user.
            action: such as ``set``, ``sign_in``.
            **what: the rest; long values are cut.
        """
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "who": who,
        }
        line |= {"action": action, **{key: _short(value) for key, value in what.items()}}
        path = self._refused_path if action in REFUSED else self._path
        with self._lock:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if path.exists() and path.stat().st_size > _MOST_BYTES:
                    path.replace(path.with_suffix(".old.jsonl"))
                path.touch(mode=0o600)
                with path.open("a", encoding="ascii") as file:  # all else is escaped
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                logger.error("the audit log cannot be written: %s", error)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest lines, newest first."""
        lines = [line for path in (self._path, self._refused_path) for line in _lines(path, count)]
        return sorted(lines, key=lambda line: str(line["at"]), reverse=True)[:count]


def _lines(path: Path, count: int) -> list[dict[str, Any]]:
    """The newest lines of a file, newest first; one that was cut off by a failure is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    found = []
    for line in reversed(lines[-count - 1 :]):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"at", "who", "action"} <= entry.keys():
            found.append(entry)
    return found


def _short(value: object) -> object:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_CHARACTERS else text[:_VALUE_CHARACTERS] + "…"

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


class Audit:
    """The file, and its predecessor when it has grown too large.

    Args:
        folder: of the panel's data.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "audit.jsonl"
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
        with self._lock:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._path.exists() and self._path.stat().st_size > _MOST_BYTES:
                    self._path.replace(self._path.with_suffix(".old.jsonl"))
                self._path.touch(mode=0o600)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            except OSError as error:
                logger.error("the audit log cannot be written: %s", error)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest lines, newest first."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [json.loads(line) for line in reversed(lines[-count:])]


def _short(value: object) -> object:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_CHARACTERS else text[:_VALUE_CHARACTERS] + "…"

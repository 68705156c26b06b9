"""Logs: one line per record on standard error, with the process, rate-limited, without words.

Under systemd the journal adds the time; elsewhere the line carries it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_FOLDER = "log"
"""In the runtime folder, which is private and on a memory file system."""
_FILE_BYTES = 256 << 10
_BURST = 20
_REFILL_PER_S = 2.0


class RateLimit(logging.Filter):
    """A token bucket per place in the code; says how many lines it held back."""

    def __init__(self, burst: int = _BURST, refill_per_s: float = _REFILL_PER_S) -> None:
        super().__init__()
        self._burst = burst
        self._refill_per_s = refill_per_s
        self._buckets: dict[tuple[str, int], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass."""
        key = (record.pathname, record.lineno)
        now = time.monotonic()
        tokens, last, held_back = self._buckets.get(key, (float(self._burst), now, 0))
        tokens = min(self._burst, tokens + (now - last) * self._refill_per_s)
        if tokens < 1:
            self._buckets[key] = (tokens, now, held_back + 1)
            return False
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} like this held back)"
            record.args = None
        self._buckets[key] = (tokens - 1, now, 0)
        return True


class _OneLine(logging.Formatter):
    """One record, one line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(super().format(record).splitlines())


def set_up_logging(process: str, level: str) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    stamp = "" if _to_journal() else "%(asctime)s.%(msecs)03d "
    handler.setFormatter(
        _OneLine(f"{stamp}{process:<11} %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    )
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def keep_log(runtime_dir: Path, label: str) -> None:
    """Also keep this process's log in the runtime folder, bounded, for the panel to show.

    Args:
        runtime_dir: see `LOG_FOLDER`.
        label: the process, with its instance.
    """
    folder = runtime_dir / LOG_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    handler = RotatingFileHandler(
        folder / f"{label}.log", maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.addFilter(RateLimit())
    logging.getLogger().addHandler(handler)


def _to_journal() -> bool:
    """Whether standard error is the journal: the variable alone is inherited by others too."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"

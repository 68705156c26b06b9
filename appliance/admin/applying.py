"""How a changed setting takes effect: who reads it is restarted, when nobody speaks, one by one.

One mechanism for all: a process reads its configuration once, at its start. To be restarted it is
asked to end (SIGTERM); whoever supervises it, systemd or ``appliance run``, starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable
from typing import Any

from appliance.admin.view import View
from appliance.processes import PROCESSES

logger = logging.getLogger(__name__)

QUIET_NS = 1_000_000_000
"""So long nobody must have had the floor."""
_ALIVE = ("ready", "standby", "degraded")
_LOOK_S = 0.1
_ANSWER_S = 0.5
"""So long the panel waits before it ends itself, for its answer to reach the browser."""


class Applier:
    """Restarts what is wanted. Lives in the web server's loop.

    Args:
        view: who is alive, and who has the floor.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._wanted: set[str] = set()
        self._failed: set[str] = set()
        self._restarting = ""
        self._task: asyncio.Task[None] | None = None

    def want(self, processes: Iterable[str]) -> None:
        """Have these processes, by name, read the configuration anew."""
        labels = {
            label for label in self._entries() for name in processes if label.split(".")[0] == name
        }
        self._wanted |= labels
        self._failed -= labels
        if self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work())

    def state(self) -> dict[str, Any]:
        """``waiting`` for their restart, ``restarting`` now, and who ``failed`` to come back."""
        return {
            "waiting": sorted(self._wanted),
            "restarting": self._restarting,
            "failed": sorted(self._failed),
        }

    def _entries(self) -> dict[str, dict[str, Any]]:
        processes: dict[str, dict[str, Any]] = self._view.health(time.monotonic_ns())["processes"]
        return processes

    async def _work(self) -> None:
        own = os.getpid()
        while self._wanted:
            # a standby first: it can then take over; this process last
            label = min(self._wanted, key=self._order)
            entry = await self._settled(label)
            if entry is None:  # it is not running: it will read what is new when it is
                self._wanted.discard(label)
                continue
            while self._view.quiet_ns(time.monotonic_ns()) < QUIET_NS:
                await asyncio.sleep(_LOOK_S)
            entry = self._entries()[label]
            if entry["state"] not in _ALIVE:
                continue
            self._wanted.discard(label)
            self._restarting = label
            logger.info("%s is restarted: its configuration has changed", label)
            if entry["pid"] == own:
                await asyncio.sleep(_ANSWER_S)
            allowed = True
            try:
                os.kill(entry["pid"], signal.SIGTERM)
            except ProcessLookupError:  # it has just ended by itself
                pass
            except PermissionError:
                allowed = False
            if entry["pid"] == own:
                return
            if not (allowed and await self._settled(label, entry["pid"])):
                logger.error("%s does not come back with the new configuration", label)
                self._failed.add(label)
            self._restarting = ""

    def _order(self, label: str) -> tuple[bool, bool, str]:
        entry = self._entries()[label]
        return (entry.get("pid") == os.getpid(), entry["state"] != "standby", label)

    async def _settled(self, label: str, other_than: int = 0) -> dict[str, Any] | None:
        """The process when it is at work, and another one than that; None when it takes too
        long."""
        spec = PROCESSES[label.split(".", maxsplit=1)[0]]
        bound_ms = spec.start_timeout_ms if other_than else spec.deadline_ms
        deadline_s = time.monotonic() + bound_ms / 1000
        while time.monotonic() < deadline_s:
            entry = self._entries()[label]
            if entry["state"] in _ALIVE and entry["pid"] != other_than:
                return entry
            if entry["state"] == "down":  # it was never there
                return None
            await asyncio.sleep(_LOOK_S)
        return None

"""The life of the processes: each says that it lives, and how."""

from __future__ import annotations

from typing import Literal

import msgspec

from appliance.messages.base import Message

ProcessState = Literal["starting", "standby", "ready", "degraded"]


class Heartbeat(Message, frozen=True, kw_only=True):
    """Sent by a process's own loop, so a loop that hangs falls silent."""

    process: str
    instance: int
    life: int
    """Monotonic nanoseconds of the process's start: another value means another life."""
    pid: int
    state: ProcessState
    detail: str = ""
    """What is wrong, or what it is doing: one line for a person."""
    restarts: int = 0
    busy_ms: int = 0
    """How long the job in hand has been running; 0 when there is none."""
    rings: dict[str, int] = msgspec.field(default_factory=dict)
    """Epoch of each ring this instance writes: readers may map it before they need it."""
    counters: dict[str, float] = msgspec.field(default_factory=dict)
    """Losses, overruns, levels and the like, with units in their names."""

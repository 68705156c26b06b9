"""How soon a process gets a processor when a message wakes it while others keep it busy.

Call before any thread is started: threads inherit what is set here, ZeroMQ's included.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path

SHORT_SLICE_NS = 100_000
"""The shortest the kernel takes."""
RAISED_NICE = -11

# sched_setattr(2) has no wrapper in Python or in older C libraries; numbers of the two ABIs
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
# size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_ATTR = struct.Struct("<IIQiIQQQ")


def use_short_slice() -> bool:
    """Ask for short turns on the processor, and so for early ones; needs no privilege.

    Linux 6.12 and later let a normal task name its slice; one with a shorter slice than whoever
    runs preempts it on waking up, at the same share of the processor in the long run (EEVDF).

    Returns:
        False when the kernel refused or is of another architecture. Older kernels accept the
        request and ignore it.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attr = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, SHORT_SLICE_NS, 0, 0)
    status: int = ctypes.CDLL(None).syscall(number, 0, attr, 0)
    return status == 0


def raise_priority(nice: int = RAISED_NICE) -> bool:
    """Take a larger share where allowed (root, CAP_SYS_NICE, RLIMIT_NICE).

    With autogroups on, as most kernels have it, ``nice`` counts only within a session; the
    session's own value counts between sessions (``sched(7)``).

    Returns:
        Whether it was allowed.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        return False
    with contextlib.suppress(OSError):  # no autogroups here
        Path("/proc/self/autogroup").write_text(str(nice), encoding="ascii")
    return True


def run_promptly(nice: int = RAISED_NICE) -> None:
    """What a process that carries audio asks for: priority where allowed, short turns always."""
    raise_priority(nice)
    use_short_slice()

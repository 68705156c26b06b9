"""The two clocks of timers and alarms, and one file descriptor that wakes a loop when they say so.

Timers run on CLOCK_BOOTTIME, which nobody can set and which goes on in suspend; alarms on the wall
clock. The kernel's timers (``timerfd_create(2)``) report also that the wall clock was set, so
nothing needs to look at it in between. Through ctypes: Python has them from 3.13 on only.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCALTIME = Path("/etc/localtime")
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_READ_TOGETHER_NS = 1_000_000
_FAR_NS = 2**62
"""A century and more away."""


@dataclass(frozen=True)
class Now:
    """One moment on both clocks."""

    boot_ns: int
    """CLOCK_BOOTTIME."""
    wall_ns: int
    """CLOCK_REALTIME, nanoseconds since 1970 UTC."""


class Clock(Protocol):
    """Where timers get the time from."""

    @property
    def boot_id(self) -> str:
        """Names this boot of the machine: the boot clock counts from its start."""

    def now(self) -> Now:
        """This moment."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._boot_id = _BOOT_ID.read_text(encoding="ascii").strip()

    @property
    def boot_id(self) -> str:
        """The kernel's random name of this boot."""
        return self._boot_id

    def now(self) -> Now:
        """This moment; both clocks read within a millisecond, or a pause would look like a step."""
        while True:
            before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            wall_ns = time.time_ns()
            after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if after_ns - before_ns < _READ_TOGETHER_NS:
                return Now((before_ns + after_ns) // 2, wall_ns)


def local_zone_name() -> str:
    """The machine's time zone, such as ``Europe/Berlin``; ``UTC`` when it has none."""
    _, found, name = str(_LOCALTIME.resolve()).partition("zoneinfo/")
    return name if found else "UTC"


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class WakeUp:
    """A descriptor that becomes readable when a moment has come or the wall clock was set."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._boot = self._create(time.CLOCK_BOOTTIME)
        self._wall = self._create(time.CLOCK_REALTIME)
        self._epoll = select.epoll(2)
        for timer in (self._boot, self._wall):
            self._epoll.register(timer, select.EPOLLIN)

    @property
    def descriptor(self) -> int:
        """To be watched for reading; then call `arm`."""
        return self._epoll.fileno()

    def woken(self) -> bool:
        """Whether it is readable: then look at the timers, and `arm` again."""
        return bool(self._epoll.poll(0))

    def arm(self, boot_ns: int | None, wall_ns: int | None) -> None:
        """Clear what has come, and wait for the next moment on either clock (absolute)."""
        for timer in (self._boot, self._wall):
            with suppress(BlockingIOError, OSError):  # nothing to read; or ECANCELED: clock set
                os.read(timer, 8)
        self._set(self._boot, boot_ns, _TFD_TIMER_ABSTIME)
        self._set(
            self._wall,
            _FAR_NS if wall_ns is None else wall_ns,
            _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET,
        )

    def close(self) -> None:
        """Close the descriptors."""
        self._epoll.close()
        os.close(self._boot)
        os.close(self._wall)

    def _create(self, clock: int) -> int:
        descriptor: int = self._libc.timerfd_create(clock, _TFD_FLAGS)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return descriptor

    def _set(self, timer: int, at_ns: int | None, flags: int) -> None:
        # zero would disarm: what is overdue is set to the earliest moment that arms
        value = _Timespec(0, 0) if at_ns is None else _Timespec(*divmod(max(1, at_ns), 10**9))
        spec = _Itimerspec(_Timespec(0, 0), value)
        if self._libc.timerfd_settime(timer, flags, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

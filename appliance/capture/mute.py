"""Mute: one owner, two reasons, and none undoes the other.

A switch or key on the box mutes by hardware, a request by software. The microphones are muted while
either holds; no request can undo the switch. What was asked for outlives restarts and crashes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

INPUT_DEVICES = Path("/dev/input")
# linux/input.h and linux/input-event-codes.h
_EVENT = struct.Struct("llHHi")
_EV_KEY, _EV_SW = 0x01, 0x05
_KEY_MICMUTE, _SW_MUTE_DEVICE = 248, 0x0E
_CODES = {_EV_KEY: _KEY_MICMUTE, _EV_SW: _SW_MUTE_DEVICE}
_PRESSED = 1
_BITS = 96
"""Bytes that hold a flag for every code."""


@dataclass
class Mute:
    """Why the microphones are muted, if they are. Pure."""

    software: bool = False
    hardware: bool = False

    @property
    def muted(self) -> bool:
        """Whether nothing may be heard."""
        return self.software or self.hardware

    def request(self, muted: bool) -> str:
        """Someone wants the microphones muted, or not.

        Returns:
            Why that is refused; empty when it is not.
        """
        if not muted and self.hardware:
            return "the microphones are muted by the switch on the box: only it can undo that"
        self.software = muted
        return ""

    def take(self, events: Iterable[tuple[int, int]]) -> None:
        """Follow the box's own switch (type EV_SW: on or off) and key (EV_KEY: the other)."""
        for kind, value in events:
            if kind == _EV_SW:
                self.hardware = bool(value)
            elif kind == _EV_KEY and value == _PRESSED:
                self.hardware = not self.hardware


class MuteFile:
    """What was asked for, kept on disk.

    A file that cannot be read means muted: to be deaf by mistake is better than to listen.

    Args:
        folder: see `appliance.capture.warm_start.state_dir`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "muted"

    def load(self) -> Mute:
        """The state that was saved last; not muted when none was."""
        try:
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return Mute()
        except (OSError, UnicodeDecodeError) as error:
            text = str(error)
        words = set(text.split())
        if not words <= {"software", "hardware", "none"} or not words:
            logger.error(
                "%s is damaged: muted, to be safe; 'appliance mute off' unmutes", self._path
            )
            return Mute(software=True)
        return Mute(software="software" in words, hardware="hardware" in words)

    def save(self, mute: Mute) -> None:
        """Replace the file as a whole; a disk that refuses is logged, mute works all the same."""
        reasons = [name for name in ("software", "hardware") if getattr(mute, name)]
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("w", encoding="ascii") as file:
                file.write(" ".join(reasons) or "none")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            logger.warning("mute will not outlive a restart: %s", error)

    def save_later(self, mute: Mute) -> None:
        """Save in a thread of its own: a disk may take long, and the microphones do not wait."""
        copy = Mute(mute.software, mute.hardware)
        threading.Thread(target=self.save, args=(copy,), name="mute-file").start()


class MuteKeys:
    """The box's own mute switches and keys, wherever the kernel shows them.

    Args:
        folder: with the kernel's input devices.
    """

    def __init__(self, folder: Path = INPUT_DEVICES) -> None:
        self.descriptors: list[int] = []
        """To be waited for; each is readable when something was switched."""
        self.switched_on = False
        """Whether a switch (not a key) is on at the start."""
        for path in sorted(folder.glob("event*")):
            with contextlib.suppress(OSError):
                self._open(path)

    def read(self) -> list[tuple[int, int]]:
        """What was switched or pressed since the last call: (EV_SW or EV_KEY, value)."""
        found = []
        for descriptor in list(self.descriptors):
            try:
                data = os.read(descriptor, 64 * _EVENT.size)
            except BlockingIOError:
                continue
            except OSError:  # unplugged
                self.descriptors.remove(descriptor)
                os.close(descriptor)
                continue
            whole = len(data) // _EVENT.size * _EVENT.size
            for _, _, kind, code, value in _EVENT.iter_unpack(data[:whole]):
                if _CODES.get(kind) == code:
                    found.append((kind, value))
        return found

    def close(self) -> None:
        """Let go of the devices."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            known = [kind for kind, code in _CODES.items() if _has(descriptor, 0x20 + kind, code)]
            if not known:
                raise OSError
            # EVIOCGSW: how the switches stand now
            if _EV_SW in known and _has(descriptor, 0x1B, _SW_MUTE_DEVICE):
                self.switched_on = True
        except OSError:
            os.close(descriptor)
            return
        self.descriptors.append(descriptor)


def _has(descriptor: int, number: int, code: int) -> bool:
    """Whether a flag is set in what an ``_IOR('E', number, …)`` of an input device gives."""
    request = 2 << 30 | _BITS << 16 | ord("E") << 8 | number
    flags = fcntl.ioctl(descriptor, request, bytes(_BITS))
    return bool(flags[code // 8] >> code % 8 & 1)

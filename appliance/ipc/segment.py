"""Shared-memory segments: who may write one, how it is named, how it goes away.

A ring's writer holds an ``flock`` for as long as it lives; the kernel frees it on any death. Its
holder alone creates segments for the ring and removes those of dead predecessors. Every writer
life makes a new segment, named after its epoch, and memory is never reused: a reader that still
maps an old one keeps it until it lets go.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path

from appliance.errors import ApplianceError

SHM_DIR = Path("/dev/shm")


@contextmanager
def _untracked() -> Iterator[None]:
    """Keep Python's resource tracker away (cpython #82300).

    It would start a helper process per process, and unlink a segment as soon as the first of its
    readers ends. ``track=False`` exists from 3.13 on.
    """
    tracker = shared_memory.resource_tracker  # type: ignore[attr-defined]
    register: Callable[[str, str], None] = tracker.register
    tracker.register = lambda name, kind: None
    try:
        yield
    finally:
        tracker.register = register


def _shared_memory(name: str, *, create: bool, size: int = 0) -> shared_memory.SharedMemory:
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name, create=create, size=size, track=False)
    with _untracked():
        return shared_memory.SharedMemory(name, create=create, size=size)


def segment_name(prefix: str, ring: str, epoch: int) -> str:
    """Name of one writer life's segment in ``/dev/shm``."""
    return f"{prefix}{ring}.{epoch}"


def list_segments(prefix: str, ring: str = "") -> list[str]:
    """Names of the segments of a ring, or of all rings under the prefix."""
    start = f"{prefix}{ring}." if ring else prefix
    return sorted(entry.name for entry in SHM_DIR.iterdir() if entry.name.startswith(start))


def unlink_segment(name: str) -> None:
    """Take the name away; whoever has it mapped keeps the memory."""
    (SHM_DIR / name).unlink(missing_ok=True)


def create_segment(name: str, size: int) -> shared_memory.SharedMemory:
    """Create a segment and really reserve its memory.

    Raises:
        ApplianceError: ``/dev/shm`` has no room. Without the reservation an overcommitted tmpfs
            would kill the writer with SIGBUS later, which Python cannot catch.
    """
    try:
        memory = _shared_memory(name, create=True, size=size)
    except OSError as error:
        raise ApplianceError(
            f"Cannot create the shared-memory segment {name}: {error.strerror}. "
            f"Is /dev/shm mounted and writable?"
        ) from error
    try:
        descriptor = os.open(SHM_DIR / name, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        memory.close()
        unlink_segment(name)
        if error.errno != errno.ENOSPC:
            raise
        free = os.statvfs(SHM_DIR)
        raise ApplianceError(
            f"/dev/shm is too small: {size / 1e6:.1f} MB are needed, "
            f"{free.f_bavail * free.f_frsize / 1e6:.1f} MB are free. Enlarge it with "
            f"'mount -o remount,size=256M /dev/shm' or remove what fills it."
        ) from error
    return memory


def attach_segment(name: str) -> shared_memory.SharedMemory:
    """Map an existing segment.

    Raises:
        FileNotFoundError: its writer has gone and a successor removed it.
    """
    return _shared_memory(name, create=False)


def view(memory: shared_memory.SharedMemory) -> memoryview:
    """A view of a segment's bytes, to be released before the segment is closed."""
    assert memory.buf is not None
    return memoryview(memory.buf)


class FileLock:
    """An exclusive ``flock`` on a file, freed by the kernel when its holder dies.

    The file is never removed (that would let two holders exist) and carries a line about the
    holder for people.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, *, wait: bool = False, about: str = "") -> bool:
        """Take the lock; without ``wait`` return False when somebody else has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, (about or str(os.getpid())).encode(), 0)
        return True

    def holder(self) -> str:
        """What the present holder wrote about itself."""
        return os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

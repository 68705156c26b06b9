"""Shared-memory segments: who may write one, how it is named, how it goes away.

A writer holds an ``flock`` on its segment for as long as it lives; the kernel frees it on any
death. Whoever writes a ring next removes what the dead left, and never what is locked. Every writer
life makes a new segment, named after its epoch, and memory is never reused: a reader that still
maps an old one keeps it until it lets go.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path

from appliance.errors import ApplianceError

SHM_DIR = Path("/dev/shm")
_DEATH_TAKES_AT_MOST_NS = 500_000_000


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


class _Memory(shared_memory.SharedMemory):
    """A mapping that may live until the process ends: then there is nothing to complain about."""

    def __del__(self) -> None:
        with contextlib.suppress(BufferError):
            super().__del__()


def _shared_memory(name: str, *, create: bool, size: int = 0) -> shared_memory.SharedMemory:
    if sys.version_info >= (3, 13):
        return _Memory(name, create=create, size=size, track=False)
    with _untracked():
        return _Memory(name, create=create, size=size)


def segment_name(prefix: str, ring: str, epoch: int) -> str:
    """Name of one writer life's segment in ``/dev/shm``."""
    return f"{prefix}{ring}.{epoch}"


def list_segments(prefix: str, ring: str = "") -> list[str]:
    """Names of the segments of a ring, or of all rings under the prefix.

    Raises:
        ApplianceError: there is no ``/dev/shm``.
    """
    pattern = re.compile(re.escape(prefix) + (re.escape(ring) if ring else r".+") + r"\.\d+")
    try:
        return sorted(e.name for e in SHM_DIR.iterdir() if pattern.fullmatch(e.name))
    except OSError as error:
        raise ApplianceError(
            f"Cannot look into {SHM_DIR}: {error.strerror}. Mount it with "
            f"'mount -t tmpfs tmpfs {SHM_DIR}'."
        ) from error


def unlink_segment(name: str) -> None:
    """Take the name away; whoever has it mapped keeps the memory."""
    (SHM_DIR / name).unlink(missing_ok=True)


def remove_dead_segments(prefix: str, ring: str) -> None:
    """Remove the segments of a ring's dead writers; the kernel has freed their locks.

    Raises:
        ApplianceError: the ring has a living writer. Its segment stays.
    """
    for name in list_segments(prefix, ring):
        try:
            held = FileLock(SHM_DIR / name, create=False)
        except FileNotFoundError:
            continue
        try:
            # a process being killed gives its files back one after the other, this one perhaps
            # a moment after the lock that told its successor
            give_up_ns = time.monotonic_ns() + _DEATH_TAKES_AT_MOST_NS
            while not held.acquire():
                if time.monotonic_ns() > give_up_ns:
                    raise ApplianceError(
                        f"The ring {ring} is being written by another live process (it holds "
                        f"{SHM_DIR / name}). Stop that one first."
                    )
                time.sleep(0.001)
            unlink_segment(name)
        finally:
            held.release()


def create_segment(name: str, size: int) -> tuple[shared_memory.SharedMemory, FileLock]:
    """Create a segment, really reserve its memory, and lock it for as long as this process lives.

    Raises:
        ApplianceError: ``/dev/shm`` has no room. Without the reservation an overcommitted tmpfs
            would kill the writer with SIGBUS later, which Python cannot catch.
    """
    try:
        memory = _shared_memory(name, create=True, size=size)
    except OSError as error:
        raise ApplianceError(
            f"Cannot create the shared-memory segment {name}: {error.strerror}. "
            f"Is {SHM_DIR} mounted and writable, and not full?"
        ) from error
    held = FileLock(SHM_DIR / name, create=False)
    try:
        os.posix_fallocate(held.descriptor, 0, size)
    except OSError as error:
        memory.close()
        held.release()
        unlink_segment(name)
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        free = os.statvfs(SHM_DIR)
        raise ApplianceError(
            f"{SHM_DIR} is too small: {size / 1e6:.1f} MB are needed, "
            f"{free.f_bavail * free.f_frsize / 1e6:.1f} MB are free. Enlarge it with "
            f"'mount -o remount,size=256M {SHM_DIR}' or remove what fills it."
        ) from error
    held.acquire()
    return memory, held


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

    The file is never removed while anyone may still want the lock (that would let two holders
    exist).
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self.descriptor = os.open(path, flags, 0o600)

    def acquire(self, *, wait: bool = False, about: str = "") -> bool:
        """Take the lock; without ``wait`` return False when somebody else has it.

        ``about`` is a line about the holder for people, kept in the file.
        """
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        if about:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, about.encode(), 0)
        return True

    def holder(self) -> str:
        """What the present holder wrote about itself."""
        return os.pread(self.descriptor, 200, 0).decode(errors="replace").strip()

    def release(self) -> None:
        """Give the lock back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

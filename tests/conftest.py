"""Fixtures for all layers: every test has a place of its own, and must leave nothing in it."""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from appliance.ipc import segment

# A run in the background has Ctrl-C ignored, and every process it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Place:
    """A private runtime folder (its path short enough for sockets) and shared-memory prefix."""

    runtime_dir: Path
    shm_prefix: str

    def segments(self) -> list[str]:
        """What is in /dev/shm under this prefix, whatever its form."""
        return sorted(
            e.name for e in segment.SHM_DIR.iterdir() if e.name.startswith(self.shm_prefix)
        )

    def sockets(self) -> list[str]:
        return sorted(path.name for path in self.runtime_dir.iterdir() if path.is_socket())


def living_children() -> set[int]:
    """Child processes of this one, without Python's own helper."""
    children = set()
    for child in psutil.Process().children(recursive=True):
        try:
            helper = any("resource_tracker" in part for part in child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and not helper:
                children.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return children


@pytest.fixture
def place() -> Iterator[Place]:
    """A place that fails the test when something is left: a segment, a socket, a child."""
    children = living_children()
    runtime_dir = Path(tempfile.mkdtemp(prefix="va-t-", dir="/tmp"))
    it = Place(runtime_dir, f"va-test-{os.getpid()}-{uuid.uuid4().hex[:6]}-")
    yield it
    left = {
        "segments": it.segments(),
        "sockets": it.sockets(),
        "children": sorted(living_children() - children),
    }
    for name in left["segments"]:
        (segment.SHM_DIR / name).unlink()
    for pid in left["children"]:
        psutil.Process(pid).kill()
    shutil.rmtree(runtime_dir)
    assert not any(left.values()), f"left behind: {left}"

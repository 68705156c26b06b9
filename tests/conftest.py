"""Fixtures for all layers: every test has a place of its own, and must leave nothing in it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest

from appliance.ipc import segment

if TYPE_CHECKING:
    from panel_world import Running

# A run in the background has Ctrl-C ignored, and every process it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time; others are looked for with `pytest --hypothesis-profile=default`.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

_LIVE_TIMEOUT_S = 300
_RERUNS = 2
_REAL_PROCESSES = Path(__file__).parent / "process"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: several seconds; scripts/test --fast leaves it out")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Live tests hear and speak in real time, on virtual hardware that shares the processor.

    A machine that stands still for a moment voids what they measure, so such a test is repeated; it
    fails when it fails every time. Each repetition is named in the summary. The same goes for tests
    with a real browser and real processes, which are held to deadlines.
    """
    for item in items:
        live = item.get_closest_marker("loopback") is not None
        if live or item.get_closest_marker("browser") or _REAL_PROCESSES in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=_RERUNS, reruns_delay=1))
        if live:
            item.add_marker(pytest.mark.timeout(_LIVE_TIMEOUT_S))


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_CPU_TIMES] = psutil.cpu_times()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what kind of machine this was: failures of live tests read differently on a slow one."""
    before, after = config.stash[_CPU_TIMES], psutil.cpu_times()
    spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    total = sum(spent.values()) or 1.0
    shares = ", ".join(
        f"{name} {100 * spent.get(name, 0.0) / total:.0f} %"
        for name in ("user", "system", "idle", "iowait", "steal")
    )
    try:
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)
        priority = "may be raised"
    except PermissionError:
        priority = "may not be raised"
    for report in terminalreporter.stats.get("failed", []):
        message = str(getattr(report.longrepr, "reprcrash", "") or report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {message[:400]}")
    terminalreporter.write_line(
        f"machine: {psutil.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {shares}; "
        f"priority {priority}"
    )


_CPU_TIMES = pytest.StashKey[Any]()


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

    def forget_sockets(self) -> None:
        """Remove those of processes that were ended as no supervisor would."""
        for name in self.sockets():
            (self.runtime_dir / name).unlink()


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


@pytest.fixture
def running(place: Place, tmp_path: Path) -> Iterator[Running]:
    """A panel that has no owner yet."""
    from panel_world import admin_process

    with admin_process(place.runtime_dir, tmp_path) as it:
        yield it


@pytest.fixture
def paired(running: Running) -> Running:
    """A panel whose owner is signed in."""
    running.pair()
    return running

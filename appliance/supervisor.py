"""``appliance run``: starts the table, restarts what dies or stalls, stops everything cleanly."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from appliance import config as configuration
from appliance.audio.devices import tidy_up_after_jack
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc import segment
from appliance.ipc.bus import Subscription, subscribe
from appliance.ipc.process import (
    ENV_RESTARTS,
    ENV_SUPERVISOR_PID,
    EXIT_CONFIG,
    STACK_DUMP_SIGNAL,
)
from appliance.messages import Heartbeat, heartbeat_topic
from appliance.processes import PROCESSES, ProcessSpec

logger = logging.getLogger(__name__)

STOP_GRACE_MS = 1_200
"""Between asking the processes to stop and killing them; the whole stop takes less than 2 s."""
STACK_DUMP_MS = 200
RESTARTS_AT_ONCE = 3
"""Restarts within ``RESTART_WINDOW_S`` without a pause; after that they back off."""
RESTART_WINDOW_S = 30.0
MAX_BACKOFF_S = 10.0
_TICK_MS = 100


def restart_delay_s(recent_restarts: int) -> float:
    """How long to wait before a restart, given how many there were in the window (pure)."""
    if recent_restarts < RESTARTS_AT_ONCE:
        return 0.0
    return float(min(MAX_BACKOFF_S, 0.5 * 2.0 ** (recent_restarts - RESTARTS_AT_ONCE)))


@dataclass
class _Child:
    """One instance of a process, over all its lives."""

    spec: ProcessSpec
    instance: int
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    started_ns: int = 0
    last_beat_ns: int = 0
    state: str = "starting"
    restarts: int = 0
    recent: deque[float] = field(default_factory=deque)
    start_at: float = 0.0
    """Monotonic seconds of a postponed start; 0 when none is."""
    killing_since_ns: int = 0
    has_worked: bool = False
    """It was ready once: the configuration is right, and what ails it now may pass."""
    failed: bool = False
    """It says that its configuration is wrong: starting it again will not help."""

    @property
    def label(self) -> str:
        """Name for people."""
        return self.spec.name if self.spec.instances == 1 else f"{self.spec.name}.{self.instance}"

    def silent_ms(self, now_ns: int) -> float:
        """How long nothing was heard of it."""
        return (now_ns - max(self.last_beat_ns, self.started_ns)) / 1e6

    def overdue(self, now_ns: int) -> bool:
        """Whether it must be taken for stalled."""
        bound = self.spec.start_timeout_ms if self.state == "starting" else self.spec.deadline_ms
        return self.silent_ms(now_ns) > bound


class Supervisor:
    """Owns the processes of one appliance on a machine without systemd units."""

    def __init__(self, config: Config) -> None:
        """Take the appliance's lock.

        Raises:
            ApplianceError: it is already running.
        """
        self.config = config
        self.runtime_dir = config.prepare_runtime_dir()
        self._lock = segment.FileLock(self.runtime_dir / "appliance.lock")
        about = f"{os.getpid()} (started by {os.environ.get('USER', os.getuid())})"
        if not self._lock.acquire(about=about):
            raise ApplianceError(
                f"The appliance is already running as process {self._lock.holder()}. "
                f"Talk to that one ('appliance status'), or stop it first."
            )
        self._environment = {
            **os.environ,
            ENV_SUPERVISOR_PID: str(os.getpid()),
            configuration.ENV_RUNTIME_DIR: str(self.runtime_dir),
        }
        self._children = [
            _Child(spec, instance)
            for spec in PROCESSES.values()
            for instance in range(spec.instances)
        ]
        self._heartbeats: Subscription = subscribe(
            self.runtime_dir, [heartbeat_topic(name) for name in PROCESSES]
        )
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._stopping = False
        tidy_up_after_jack()
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed predecessor left; the lock says that it is dead."""
        for name in segment.list_segments(self.config.shm_prefix):
            segment.unlink_segment(name)
        for kind in ("*.pub", "*.req"):
            for path in self.runtime_dir.glob(kind):
                path.unlink(missing_ok=True)

    def request_stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Signal handler: make ``run`` return."""
        self._stopping = True
        os.write(self._wake_write, b"x")

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start everything, with these variables over the present ones; returns at once."""
        self._environment |= environment or {}
        for child in self._children:
            self._start(child)

    def _start(self, child: _Child) -> None:
        child.start_at = 0.0
        child.killing_since_ns = 0
        child.state = "starting"
        child.started_ns = time.monotonic_ns()
        command = [sys.executable, "-m", "appliance.ipc.process", child.spec.name]
        try:
            child.process = subprocess.Popen(
                [*command, str(child.instance)],
                env={**self._environment, ENV_RESTARTS: str(child.restarts)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:  # no memory or no process left: that passes
            logger.error("%s cannot be started: %s; trying again", child.label, error)
            child.start_at = time.monotonic() + MAX_BACKOFF_S
            return
        child.pidfd = os.pidfd_open(child.process.pid)
        self._selector.register(child.pidfd, selectors.EVENT_READ)

    def ready(self) -> bool:
        """Whether every process has said that it is ready (or standing by)."""
        return all(child.state != "starting" for child in self._children)

    def waiting(self) -> list[str]:
        """Processes that are not ready yet."""
        return [child.label for child in self._children if child.state == "starting"]

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopping

    def failures(self) -> list[str]:
        """Processes that refuse to start."""
        return [child.label for child in self._children if child.failed]

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Supervise until ``request_stop`` or ``until()``; checked after every event."""
        while not self._stopping and not until():
            self.step()

    def step(self) -> None:
        """Wait for the next event (at most one tick) and deal with all that is due."""
        self._selector.select(_TICK_MS / 1000)
        while isinstance(beat := self._heartbeats.receive(0), Heartbeat):
            self._note(beat)
        now_ns = time.monotonic_ns()
        for child in self._children:
            if child.process is None:
                if child.start_at and time.monotonic() >= child.start_at:
                    self._start(child)
            elif child.process.poll() is not None:
                self._died(child)
            elif child.killing_since_ns:
                if (now_ns - child.killing_since_ns) / 1e6 > STACK_DUMP_MS:
                    child.process.kill()
            elif child.overdue(now_ns):
                logger.error(
                    "%s has stalled: silent for %.0f ms; its stacks follow, then a restart",
                    child.label,
                    child.silent_ms(now_ns),
                )
                child.process.send_signal(STACK_DUMP_SIGNAL)
                child.killing_since_ns = now_ns

    def _note(self, beat: Heartbeat) -> None:
        for child in self._children:
            if (
                child.spec.name == beat.process
                and child.instance == beat.instance
                and child.process is not None
                and child.process.pid == beat.pid
            ):
                child.last_beat_ns = time.monotonic_ns()
                child.state = beat.state
                child.has_worked = child.has_worked or beat.state != "starting"

    def _died(self, child: _Child) -> None:
        assert child.process is not None
        status = child.process.returncode
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        child.process = None
        if status == EXIT_CONFIG and not child.has_worked:
            logger.error("%s cannot start; see its last line", child.label)
            child.failed = True
            return
        now = time.monotonic()
        while child.recent and now - child.recent[0] > RESTART_WINDOW_S:
            child.recent.popleft()
        delay_s = restart_delay_s(len(child.recent))
        child.recent.append(now)
        child.restarts += 1
        how = (
            f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"status {status}"
        )
        logger.warning("%s ended with %s; restart in %.1f s", child.label, how, delay_s)
        if delay_s:
            child.start_at = now + delay_s
        else:
            self._start(child)

    def stop(self) -> None:
        """Stop everything, within 2 s, and leave nothing behind."""
        living = [(c.label, c.process) for c in self._children if c.process is not None]
        for _, process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_GRACE_MS / 1000
        for label, process in living:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("killing %s, which did not stop in time", label)
                process.kill()
                process.wait()
        self._heartbeats.close()
        self._selector.close()
        self._sweep()
        self._lock.release()

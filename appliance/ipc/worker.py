"""A worker thread for jobs that take long (models), so that the loop stays responsive.

The loop hands over one job at a time and goes on receiving; results come back through a queue
and a file descriptor that wakes the loop. A job that runs past its bound silences the heartbeat:
the watchdog then restarts the whole process, which is the only cure for a hung native call.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

Emit = Callable[[object], None]
Cancelled = Callable[[], bool]
Job = Callable[[Emit, Cancelled], None]


@dataclass
class _Submitted:
    id: str
    job: Job
    bound_ms: int
    on_error: Callable[[str], object]
    owner: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    started_ns: int = 0


class Worker:
    """Runs jobs one after the other; each gets ``emit(message)`` and ``cancelled()``."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when ``messages`` has something, and when a job has ended."""
        self._results: deque[object] = deque()
        self._queue: queue.Queue[_Submitted] = queue.Queue()
        self._jobs: dict[str, _Submitted] = {}
        self._current: _Submitted | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        job_id: str,
        job: Job,
        *,
        bound_ms: int,
        on_error: Callable[[str], object],
        owner: str = "",
    ) -> None:
        """Queue a job.

        Args:
            job_id: by which it can be cancelled.
            job: the work; messages it emits reach the loop in order.
            bound_ms: the longest it may run before it counts as hung.
            on_error: makes the message to emit when the job raises, from the error's text.
            owner: whose it is, for `cancel_all`.
        """
        submitted = _Submitted(job_id, job, bound_ms, on_error, owner)
        self._jobs[job_id] = submitted
        self._queue.put(submitted)

    def cancel(self, job_id: str) -> None:
        """Ask a queued or running job to stop; unknown ids are ignored."""
        if job := self._jobs.get(job_id):
            job.cancelled.set()

    def cancel_all(self, owner: str) -> None:
        """Ask every queued or running job of ``owner`` to stop."""
        for job in list(self._jobs.values()):
            if job.owner == owner:
                job.cancelled.set()

    def has(self, job_id: str) -> bool:
        """Whether this job is queued or running."""
        return job_id in self._jobs

    @property
    def idle(self) -> bool:
        """Whether no job is queued or running."""
        return not self._jobs

    def messages(self) -> Iterator[object]:
        """What the jobs have emitted since the last call."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return
        while self._results:
            yield self._results.popleft()

    def busy_ms(self) -> int:
        """How long the job in hand has been running; 0 when idle."""
        job = self._current
        return (time.monotonic_ns() - job.started_ns) // 1_000_000 if job else 0

    def hung(self) -> bool:
        """Whether the job in hand has outrun its bound, or the thread has died of one."""
        job = self._current
        late = job is not None and self.busy_ms() > job.bound_ms
        return late or not self._thread.is_alive()

    def _emit(self, message: object) -> None:
        self._results.append(message)
        os.eventfd_write(self.descriptor, 1)

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            job.started_ns = time.monotonic_ns()
            self._current = job
            try:
                if not job.cancelled.is_set():
                    job.job(self._emit, job.cancelled.is_set)
            except Exception as error:
                logger.exception("job failed")
                self._emit(job.on_error(f"{type(error).__name__}: {error}"))
            finally:
                self._current = None
                self._jobs.pop(job.id, None)
                os.eventfd_write(self.descriptor, 1)

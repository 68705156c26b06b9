"""What waits for the disk, a tool or another process, done out of the loop's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, cast

from appliance.errors import ApplianceError
from appliance.ipc.worker import Cancelled, Emit, Worker

_BOUND_MS = 70_000
"""Longer than any tool may take."""

Then = Callable[[], object]
"""What the loop does once an errand is done."""


class Errands:
    """Runs errands one after the other in a thread of its own.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._worker = Worker(name)
        self.descriptor = self._worker.descriptor
        """Readable when one is done: then call `settle`."""
        self.busy_ms = self._worker.busy_ms
        self.hung = self._worker.hung

    def run(self, name: str, errand: Callable[[], Then]) -> None:
        """Queue an errand; it returns what `settle` is to do, in the loop's thread."""

        def job(emit: Emit, _cancelled: Cancelled) -> None:
            emit(errand())

        self._worker.submit(name, job, bound_ms=_BOUND_MS, on_error=_failure)

    def settle(self) -> None:
        """Do what the errands that are done have left to do.

        Raises:
            ApplianceError: one of them failed: what is kept cannot be relied on.
        """
        for then in self._worker.messages():
            cast(Then, then)()


def _failure(error: str) -> Then:
    def fail() -> NoReturn:
        # the next life sets a damaged store aside
        raise ApplianceError(f"What is kept cannot be used: {error}")

    return fail

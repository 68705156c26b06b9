"""How a fetch looks: bars on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import time

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class ProgressBars:
    """Bars with size, rate and remaining time; news go above them."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """See `Reporter`."""
        self._progress.console.print(text, highlight=False)

    def begin(self, label: str, total_bytes: int, have_bytes: int) -> None:
        """See `Reporter`."""
        self._task = self._progress.add_task(label, total=total_bytes, completed=have_bytes)

    def advance(self, count_bytes: int) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.advance(self._task, count_bytes)

    def end(self) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


class PlainLines:
    """For logs and pipes: a line when a transfer starts, none while it runs."""

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """See `Reporter`."""
        typer.echo(text)

    def begin(self, label: str, total_bytes: int, have_bytes: int) -> None:
        """See `Reporter`."""
        left = f", {have_bytes / 1e6:.1f} MB of them here" if have_bytes else ""
        typer.echo(f"{label}: getting {total_bytes / 1e6:.1f} MB{left}")

    def advance(self, count_bytes: int) -> None:
        """See `Reporter`."""

    def end(self) -> None:
        """See `Reporter`."""


class JsonLines:
    """For programs: where a transfer stands, some times a second."""

    _EVERY_S = 0.25

    def __init__(self) -> None:
        self._transfer: dict[str, str | int] = {}
        self._told_s = 0.0

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """See `Reporter`."""
        self._tell({"note": text})

    def begin(self, label: str, total_bytes: int, have_bytes: int) -> None:
        """See `Reporter`."""
        self._transfer = {"label": label, "total_bytes": total_bytes, "have_bytes": have_bytes}
        self._tell(self._transfer)

    def advance(self, count_bytes: int) -> None:
        """See `Reporter`."""
        self._transfer["have_bytes"] = int(self._transfer.get("have_bytes", 0)) + count_bytes
        if time.monotonic() - self._told_s >= self._EVERY_S:
            self._tell(self._transfer)

    def end(self) -> None:
        """See `Reporter`."""
        self._tell(self._transfer)

    def _tell(self, line: dict[str, str | int] | dict[str, str]) -> None:
        self._told_s = time.monotonic()
        typer.echo(json.dumps(line))

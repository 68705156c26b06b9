"""``appliance bench``: every bench prints one JSON object with ``--json``."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure it on this machine.", no_args_is_help=True)


@app.command()
def ring() -> None:
    """Shared-memory rings: latency, CPU, losses, beside other ways to share audio."""

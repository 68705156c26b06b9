"""What all commands print with: people get colours and tables, programs one JSON object."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

# in a pipe a line stays a line, however long it is
console = Console(soft_wrap=not sys.stdout.isatty())
notes = Console(stderr=True, soft_wrap=not sys.stderr.isatty())

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def print_json(value: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")

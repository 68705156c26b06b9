"""``appliance config show|check``."""

from __future__ import annotations

import json

import typer
from rich.markup import escape

from appliance.config import Section, default_path, load
from appliance.terminal import JsonOption, console, print_json

app = typer.Typer(help="Show or check the configuration.", no_args_is_help=True)


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show every key with the value in force and what it means."""
    config = load()
    if as_json:
        print_json(config.model_dump())
        return
    _show_section(config, "")


def _show_section(section: Section, name: str) -> None:
    fields = type(section).model_fields
    values = {key: getattr(section, key) for key in fields}
    if name:
        console.print(f"\n[bold]\\[{name}][/]")
    for key, value in values.items():
        if not isinstance(value, Section):
            text = " ".join((fields[key].description or "").replace("``", "'").split())
            shown = json.dumps(value)
            console.print(f"{key} = {escape(shown)}", f"[dim]# {escape(text)}[/]" if text else "")
    for key, value in values.items():
        if isinstance(value, Section):
            _show_section(value, key)


@app.command()
def check() -> None:
    """Say whether the configuration is valid; what is wrong with it otherwise."""
    path = default_path()
    load(path)
    console.print(f"{path} is valid.")

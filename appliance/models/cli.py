"""`appliance models list|fetch|verify|convert`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance import config as configuration
from appliance.errors import ApplianceError
from appliance.models.manifest import ModelEntry
from appliance.models.store import FileState, ModelStore

app = typer.Typer(
    help="Get, check and convert the model files.", no_args_is_help=True, add_completion=False
)

Names = Annotated[list[str] | None, typer.Argument(help="Models; without any, the default set.")]
AllModels = Annotated[bool, typer.Option("--all", help="Every model of the manifest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_INTERRUPTED = 130


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Show what there is, under which licence, and what is installed."""
    _guard(lambda: _list(_store(), as_json))


def _list(store: ModelStore, as_json: bool) -> None:
    rows = [
        {
            "name": model.name,
            "task": model.task,
            "languages": list(model.languages),
            "licence": model.licence,
            "profile": model.profile,
            "size_bytes": model.size_bytes,
            "installed": all(store.peek(model, file) is FileState.OK for file in model.files),
            "note": model.note,
        }
        for model in store.manifest.models
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    columns = ("task", "languages", "MB", "licence", "set", "here")
    table = Table(Column("name", no_wrap=True), *columns, box=None)
    for row, model in zip(rows, store.manifest.models, strict=True):
        table.add_row(
            model.name,
            model.task,
            " ".join(model.languages),
            f"{model.size_bytes / 1e6:.0f}",
            model.licence,
            model.profile,
            "yes" if row["installed"] else "no",
        )
    Console().print(table)


@app.command()
def fetch(
    names: Names = None,
    every: AllModels = False,
    folders: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Look in this folder (a USB stick) first.", exists=True),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download what is missing or damaged; goes on where an earlier call stopped."""

    def run() -> None:
        from rich.console import Console

        from appliance.models.fetch import Fetcher
        from appliance.models.progress import JsonLines, PlainLines, ProgressBars

        store = _store()
        models = _chosen(store, names, every)
        plain = JsonLines() if as_json else PlainLines()
        bars = sys.stdout.isatty() and not as_json
        with ProgressBars(Console()) if bars else plain as reporter:
            _fail_with(Fetcher(store, reporter, folders or ()).fetch(models))

    _guard(run)


@app.command()
def verify(
    names: Names = None,
    every: AllModels = False,
    full: Annotated[bool, typer.Option("--full", help="Hash everything again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the files with the manifest's sha256."""

    def run() -> None:
        store = _store()
        rows = _verify(store, _chosen(store, names, every), full)
        bad = [row for row in rows if row["state"] != FileState.OK.value]
        if as_json:
            typer.echo(json.dumps(rows, indent=2))
        else:
            for row in rows:
                typer.echo(f"{row['state']:10}  {row['path']}")
        if bad:
            names_of_bad = " ".join(sorted({row["model"] for row in bad}))
            raise ApplianceError(
                f"{len(bad)} of {len(rows)} files are not right;"
                f" run: appliance models fetch {names_of_bad}"
            )

    _guard(run)


def _verify(store: ModelStore, models: Sequence[ModelEntry], full: bool) -> list[dict[str, Any]]:
    return [
        {
            "model": model.name,
            "path": str(store.path(model, file)),
            "state": store.check(model, file, full=full).value,
        }
        for model in models
        for file in model.files
    ]


@app.command()
def convert(names: Names = None) -> None:
    """Make derived files (ggml from CTranslate2) anew; `fetch` makes those that are missing."""

    def run() -> None:
        from appliance.models.fetch import Fetcher
        from appliance.models.progress import PlainLines

        store = _store()
        fetcher = Fetcher(store, PlainLines())
        for model in _chosen(store, names, every=False):
            sources = [file.path for file in model.files if not file.derive]
            if len(sources) < len(model.files):
                store.ensure(model.name, sources)
                for path in fetcher.derive(model):
                    typer.echo(f"{path}: written")
            elif names:
                typer.echo(f"{model.name}: nothing to convert")

    _guard(run)


def _store() -> ModelStore:
    """The folder that the processes will read."""
    return ModelStore(configuration.load().models_path)


def _chosen(store: ModelStore, names: list[str] | None, every: bool) -> Sequence[ModelEntry]:
    if every:
        return store.manifest.models
    if names:
        return [store.manifest.model(name) for name in names]
    return store.manifest.default_models()


def _fail_with(failures: Sequence[ApplianceError]) -> None:
    for failure in failures:
        typer.echo(f"error: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _guard(run: Callable[[], None]) -> None:
    """Errors for the owner are one line on stderr and exit code 1."""
    try:
        run()
    except ApplianceError as error:
        _fail_with([error])
    except OSError as error:
        _fail_with([ApplianceError(f"{error.filename}: {error.strerror}")])
    except KeyboardInterrupt:
        typer.echo("stopped; the next fetch goes on from here", err=True)
        raise typer.Exit(_INTERRUPTED) from None


if __name__ == "__main__":
    app()

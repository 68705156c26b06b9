"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from appliance import __version__
from appliance import config as configuration
from appliance.admin.cli import pair
from appliance.bench.cli import app as bench_app
from appliance.capture.cli import front_end
from appliance.config.cli import app as config_app
from appliance.errors import ApplianceError
from appliance.models.cli import app as models_app
from appliance.terminal import JsonOption, console, notes, print_json

if TYPE_CHECKING:
    from appliance.client import Answer, ApplianceClient
    from appliance.config import Config

app = typer.Typer(
    help="A private voice assistant: it hears, thinks and speaks on this machine alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")
app.command("front-end")(front_end)

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Another configuration file.", envvar=configuration.ENV_CONFIG),
]


def _version(value: bool) -> None:
    if value:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if config is not None:
        os.environ[configuration.ENV_CONFIG] = str(config.resolve())  # for the processes too


# --- run ---------------------------------------------------------------------------------------


@app.command()
def run(
    *,
    demo: Annotated[
        bool,
        typer.Option(help="Without a sound card: ask itself a recorded question once it is ready."),
    ] = True,
) -> None:
    """Start the appliance and stay until Ctrl-C.

    With a sound card it listens and answers. Without one it works on virtual devices and asks
    itself a recorded question, to show that everything works.
    """
    from appliance import run as running
    from appliance.ipc.log import set_up_logging

    config = configuration.load()
    set_up_logging("supervisor", config.logging.level)
    loopback = running.wants_loopback(config)
    with running.running(config, loopback=loopback) as supervisor:
        notes.print("Starting ...")
        if not running.wait_ready(supervisor):
            return
        where = "virtual devices (no sound card)" if loopback else "the sound card"
        console.print(f"[bold green]Ready[/]: listening on {where}. Ctrl-C stops it.")
        console.print(f"Panel: http://localhost:{config.admin.port}/")
        if loopback and demo:
            console.print("Asking myself a recorded question ...")
            answer = running.supervise_while(
                supervisor, lambda: _ask_file(config, running.QUESTION)
            )
            if answer is not None:
                _print_answer(answer)
        elif not loopback:
            console.print(f"{_call(config)}for instance: What is the capital of Italy?")
        supervisor.run()
        notes.print("Stopping ...")


def _call(config: Config) -> str:
    """How to get its attention."""
    if config.conductor.attention == "open":
        return "Say something, "
    return f'Say "{config.vad.wake_word.replace("_", " ").title()}", then something, '


def _ask_file(config: Config, path: Path) -> Answer:
    from appliance.client import ApplianceClient

    with ApplianceClient(config) as client:
        return client.ask_recording(path)


def _print_answer(answer: Answer) -> None:
    record = answer.record
    if record.transcript:
        console.print(f"[bold]Heard:[/]    {escape(record.transcript)}")
    console.print(f"[bold]Answered:[/] {escape(record.reply) or '(nothing)'}")
    table = Table("part of the turn", "ms", box=None)
    table.columns[1].justify = "right"
    for name, ms in record.contributions_ms.items():
        table.add_row(name, f"{ms:.0f}")
    table.add_row("[bold]voice to voice[/]", f"[bold]{record.voice_to_voice_ms:.0f}[/]")
    console.print(table)
    if record.marks:
        console.print(f"Marks: {', '.join(record.marks)}")


# --- talk to it --------------------------------------------------------------------------------


def _with_appliance(config: Config, work: Callable[[ApplianceClient], Answer]) -> Answer:
    """Work with the running appliance, or with one that is started for this alone."""
    from appliance import run as running
    from appliance.client import ApplianceClient
    from appliance.ipc.log import set_up_logging

    with ApplianceClient(config) as client:
        if any(p["state"] != "down" for p in client.status()["processes"].values()):
            if not client.wait_ready(running.READY_BOUND_S):
                raise ApplianceError("The appliance is not well; see 'appliance status'.")
            return work(client)
        notes.print("The appliance is not running: starting one for this ...")
        set_up_logging("supervisor", "warning")
        os.environ.setdefault(f"{configuration.ENV_PREFIX}LOGGING__LEVEL", "warning")
        with running.running(config, loopback=running.wants_loopback(config)) as supervisor:
            answer = None
            if running.wait_ready(supervisor):
                answer = running.supervise_while(
                    supervisor,
                    lambda: work(client) if client.wait_ready(running.READY_BOUND_S) else None,
                )
        if answer is None:
            raise ApplianceError("Stopped before there was an answer.")
        return answer


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="A sound file to be heard, or a text.")],
    out: Annotated[
        Path | None, typer.Option(help="Write what the loudspeaker played to this WAV file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a question, as if spoken at the microphone, and wait for the spoken answer.

    Uses the running appliance, or starts one for this question and stops it again.
    """
    # whatever cannot work is refused before anything is started
    path = _sound_file(question)
    if path is not None:
        from appliance.audio.files import inspect_speech

        inspect_speech(path)
    elif not question.strip():
        raise ApplianceError("The question is empty. Give a sound file or some words.")
    if out is not None:
        _check_writable(out.resolve())
    answer = _with_appliance(
        configuration.load(),
        lambda client: client.ask_text(question) if path is None else client.ask_recording(path),
    )
    if out is not None:
        answer.save(out)
    if as_json:
        print_json(answer.to_json(out))
    else:
        _print_answer(answer)


def _sound_file(question: str) -> Path | None:
    """The file that is meant; None when it is a text."""
    path = Path(question)
    named = path.suffix.lower() in SOUND_SUFFIXES or ("/" in question and " " not in question)
    try:
        return path if named or path.is_file() else None
    except OSError:  # a text too long for a name
        return None


def _check_writable(out: Path) -> None:
    if out.is_dir():
        raise ApplianceError(f"{out} is a folder. Name a WAV file in it.")
    if not out.parent.is_dir():
        raise ApplianceError(f"There is no folder {out.parent} to write {out.name} to.")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise ApplianceError(f"No permission to write {out}. Name another place with --out.")


@app.command()
def say(text: Annotated[str, typer.Argument(help="What to say.")]) -> None:
    """Have the appliance say something.

    Uses the running appliance, or starts one for this and stops it again.
    """
    if not text.strip():
        raise ApplianceError("There is nothing to say. Give some words.")
    _with_appliance(configuration.load(), lambda client: client.say(text))


# --- look at it --------------------------------------------------------------------------------


class MuteAction(str, Enum):
    """What ``appliance mute`` can do."""

    ON = "on"
    OFF = "off"
    STATUS = "status"


@app.command()
def mute(
    action: Annotated[MuteAction, typer.Argument(help="What to do.")] = MuteAction.STATUS,
) -> None:
    """Mute the microphones until 'appliance mute off', restarts included.

    A mute switch on the box is above it: what it mutes no command can open.
    """
    from appliance.client import ApplianceClient

    with ApplianceClient(configuration.load()) as client:
        if action is not MuteAction.STATUS:
            client.mute(action is MuteAction.ON)
        state = client.mute_state()
    if state is None:
        raise ApplianceError("The appliance does not say. See 'appliance status'.")
    if state.hardware:
        console.print("muted by the switch on the box")
    else:
        console.print("muted" if state.software else "not muted")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show whether it is ready, and every process. Exit status 3 when it is not ready."""
    from appliance.client import ApplianceClient
    from appliance.health import resources

    with ApplianceClient(configuration.load()) as client:
        state = client.status()
    for entry in state["processes"].values():
        if "pid" in entry:
            entry.update(resources(entry["pid"]))
    if as_json:
        print_json(state)
    else:
        _print_status(state)
    if not state["ready"]:
        raise typer.Exit(3)


def _print_status(state: dict[str, Any]) -> None:
    if all(entry["state"] == "down" for entry in state["processes"].values()):
        console.print("[red]not running[/] (start: scripts/run)")
        return
    table = Table("process", "state", "pid", "up", "restarts", "CPU s", "PSS MB", "", box=None)
    table.columns[-1].overflow = "fold"
    columns = ("pid", "uptime_s", "restarts", "cpu_s", "pss_mb")
    colours = {"ready": "green", "standby": "green", "starting": "yellow"}
    for name, entry in state["processes"].items():
        colour = colours.get(entry["state"], "red")
        table.add_row(
            name,
            f"[{colour}]{entry['state']}[/]",
            *(str(entry.get(key, "")) for key in columns),
            escape(_detail(entry)),
        )
    console.print(table)
    console.print("[green]ready[/]" if state["ready"] else "[red]not ready[/] (see the log)")


def _detail(entry: dict[str, Any]) -> str:
    level_dbfs = entry.get("counters", {}).get("level_dbfs")
    level = [] if level_dbfs is None else [f"hears {level_dbfs:.0f} dBFS"]
    return "; ".join([*filter(None, [entry["detail"]]), *level])


@app.command()
def events(
    *,
    words: Annotated[
        bool, typer.Option(help="Also what was said and answered; otherwise it is left out.")
    ] = False,
    turns: Annotated[bool, typer.Option(help="Only the records of finished turns.")] = False,
) -> None:
    """Follow the conversation's events, one JSON object a line, until Ctrl-C."""
    from appliance import events as following
    from appliance.messages import TurnRecord

    topics = [TurnRecord.topic] if turns else following.EVENT_TOPICS
    try:
        for entry in following.follow(configuration.load().runtime_path, topics):
            if entry is not None:
                sys.stdout.write(following.to_line(*entry, words=words) + "\n")
                sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        return


app.command()(pair)


@app.command()
def doctor(
    *,
    chirp: Annotated[
        bool, typer.Option("--chirp", help="Play a chirp too: delay, drift, echo, microphones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at devices, permissions, memory, models, clock, CPU, and say what to fix."""
    from dataclasses import asdict

    from appliance.doctor import examine

    config = configuration.load()
    findings = list(examine(config))
    if chirp:
        from appliance.capture.checkup import examine_echo

        notes.print("Playing a chirp and some speech; be quiet for a while ...")
        findings += examine_echo(config)
    healthy = all(finding.verdict != "error" for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]look[/]", "error": "[red]fix[/]"}
        for finding in findings:
            console.print(
                f"{marks[finding.verdict]:>16}  {finding.check}: {escape(finding.detail)}"
            )
            if finding.fix:
                console.print(f"        -> {escape(finding.fix)}")
    if not healthy:
        raise typer.Exit(1)


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List the audio devices, with the stable ids to put into the configuration."""
    from dataclasses import asdict

    from appliance.audio.devices import list_devices, open_portaudio

    portaudio = open_portaudio()
    try:
        found = list_devices(portaudio)
    finally:
        portaudio.terminate()
    if as_json:
        print_json([asdict(device) for device in found])
        return
    if not found:
        console.print("No audio devices. 'appliance run' then works on virtual ones.")
        return
    table = Table("name", "in", "out", "rate", "stable id", box=None)
    for device in found:
        table.add_row(
            escape(device.name),
            str(device.input_channels),
            str(device.output_channels),
            f"{device.default_rate_hz} Hz",
            device.stable_id,
        )
    console.print(table)

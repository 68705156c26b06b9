"""``appliance bench``: every bench prints one JSON object with ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from appliance.config import LlmConfig

app = typer.Typer(help="Measure it on this machine.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
LlmOption = Annotated[str, typer.Option("--llm", help="Language model.")]
DEFAULT_LLM = LlmConfig().model


def _show(result: Mapping[str, Any], *, as_json: bool) -> None:
    from appliance.bench.report import print_json

    if as_json:
        print_json(dict(result))
        return
    table = Table("figure", "value", box=None)
    table.columns[1].justify = "right"
    for name, value in result["figures"].items():
        table.add_row(name, f"{value:g}")
    Console().print(table)


@app.command()
def ring(
    blocks: Annotated[int, typer.Option(help="Unpaced blocks to write.")] = 1_000_000,
    paced_blocks: Annotated[int, typer.Option(help="Blocks at 10 ms.")] = 2_000,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Audio rings: latency, CPU, losses, beside other ways to share audio."""
    from appliance.bench.ring import run

    _show(run(blocks=blocks, paced_blocks=paced_blocks, seed=seed), as_json=as_json)


@app.command()
def playback(
    blocks: Annotated[int, typer.Option(help="Blocks of each kind.")] = 20_000,
    starts: Annotated[int, typer.Option(help="Times that a remote session is opened.")] = 100,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """The loudspeaker's block of 10 ms, and how soon a remote session is spoken to."""
    from appliance.bench.playback import run

    _show(run(blocks=blocks, starts=starts, seed=seed), as_json=as_json)


@app.command()
def voice(
    kind: Annotated[
        Literal["questions", "people"],
        typer.Option(help="Synthesised questions, or recordings of people (no questions)."),
    ] = "questions",
    count: Annotated[int, typer.Option(help="Questions to ask.")] = 12,
    llm: LlmOption = DEFAULT_LLM,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Voice to voice from outside: recorded people ask, the loudspeaker is listened to."""
    from appliance.bench.voice import run

    _show(run(kind=kind, count=count, llm=llm, seed=seed), as_json=as_json)


@app.command()
def idle(
    seconds: Annotated[float, typer.Option(help="How long to watch.")] = 60.0,
    llm: LlmOption = DEFAULT_LLM,
    as_json: JsonOption = False,
) -> None:
    """CPU and memory of every process while nobody speaks."""
    from appliance.bench.idle import run

    _show(run(seconds=seconds, llm=llm), as_json=as_json)


@app.command()
def recovery(
    repeats: Annotated[int, typer.Option(help="Kills of each process.")] = 3,
    llm: LlmOption = DEFAULT_LLM,
    as_json: JsonOption = False,
) -> None:
    """Kill every process and time how soon it is back; time the start."""
    from appliance.bench.recovery import run

    _show(run(repeats=repeats, llm=llm), as_json=as_json)


@app.command()
def asr(
    model: Annotated[str, typer.Option(help="Speech model.")] = "whisper-tiny.en",
    threads: Annotated[int, typer.Option(help="Threads of each engine.")] = 1,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Words while speech goes on, and the final ones.")
    ] = False,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Word error rate and CPU time of the speech recognition engines."""
    from appliance.bench import asr as engines
    from appliance.bench import asr_streaming

    if streaming:
        _show(asr_streaming.run(model=model, threads=threads, seed=seed), as_json=as_json)
    else:
        _show(engines.run(model=model, threads=threads), as_json=as_json)


@app.command()
def vocabulary(
    *,
    part: Annotated[
        Literal["held-out", "development"],
        typer.Option(help="The lists that are reported, or those that weights are chosen on."),
    ] = "held-out",
    model: Annotated[str, typer.Option(help="Speech model.")] = "whisper-tiny.en",
    repeats: Annotated[int, typer.Option(help="Sentences with each entry.", min=1)] = 3,
    seed: SeedOption = 1,
    threads: Annotated[int, typer.Option(help="Of the speech model.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Rare names in the vocabulary: recovered, and what that does to other words."""
    from appliance.bench.vocabulary import run

    result = run(part=part, model=model, repeats=repeats, seed=seed, threads=threads)
    _show(result, as_json=as_json)


@app.command("front-end")
def front_end(
    *,
    row: Annotated[
        list[str] | None, typer.Option(help="Only this row of the table; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Held-out scenes of each row.", min=1)] = 20,
    quick: Annotated[bool, typer.Option("--quick", help="Only four scenes of each row.")] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also the chain without each of its stages.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(help="Also sweeps, a plot of each into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Echo, double talk, drift, beam, direction, words and cost in simulated rooms."""
    from appliance.bench.front_end import run

    result = run(rows=row or (), seeds=seeds, quick=quick, ablation=ablation, plots=plots)
    if as_json:
        _show(result, as_json=True)
        return
    table = Table("row", "RT60", "figure", "target", "", "by candidate", box=None)
    for entry in result["rows"]:
        target = entry["target"]
        table.add_row(
            entry["row"],
            f"{entry['rt60_s']:g} s",
            entry["figure"],
            "" if target is None else f"{'≥' if entry['at_least'] else '≤'} {target:g}",
            {True: "ok", False: "MISSED", None: ""}[entry.get("passed")],
            ", ".join(f"{name} {value:g}" for name, value in entry["values"].items()),
        )
    Console().print(table)


@app.command("end-of-turn")
def end_of_turn(
    count: Annotated[int, typer.Option(help="Sayings of each kind.", min=10)] = 60,
    llm: LlmOption = DEFAULT_LLM,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Ends of turns against pauses inside them, by sound and words; the ducking reflex."""
    from appliance.bench.end_of_turn import run

    _show(run(count=count, llm=llm, seed=seed), as_json=as_json)


@app.command()
def panel(
    *,
    watchers: Annotated[int, typer.Option(help="Browsers that watch the live stream.")] = 50,
    seconds: Annotated[float, typer.Option(help="How long they watch.")] = 60.0,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for an appliance to be started beside this.")
    ] = 0.0,
    attack: Annotated[
        bool, typer.Option("--attack", help="Instead: slow clients and bad logins, alone.")
    ] = False,
    logins: Annotated[int, typer.Option(help="Bad logins.")] = 100_000,
    as_json: JsonOption = False,
) -> None:
    """The panel: what watching browsers cost a running appliance, and what bad clients can do."""
    from appliance.bench import panel as bench

    if attack:
        _show(bench.attack(logins=logins), as_json=as_json)
    else:
        result = bench.watch(watchers=watchers, seconds=seconds, wait_s=wait)
        _show(result, as_json=as_json)


@app.command()
def sessions(
    *,
    browsers: Annotated[int, typer.Option(help="Beside the local session.", min=1, max=4)] = 4,
    rounds: Annotated[int, typer.Option(help="Times that all ask at once.", min=1)] = 4,
    pairs: Annotated[
        int, typer.Option(help="Commands given in the room and through a browser.", min=1)
    ] = 24,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this part: together, browser.")
    ] = None,
    llm: LlmOption = DEFAULT_LLM,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Browsers and the local session at once: who waits how long; what a browser adds."""
    from appliance.bench.sessions import run

    result = run(
        browsers=browsers, rounds=rounds, pairs=pairs, parts=only or (), llm=llm, seed=seed
    )
    _show(result, as_json=as_json)


@app.command()
def mind(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this part; may be repeated. intents, timers, recall, tools, claims, prefix, "
            "dialogues, voice."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer of each.")] = False,
    llm: LlmOption = DEFAULT_LLM,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """What is understood, remembered and done, what is never claimed, and how soon."""
    from appliance.bench.mind import run

    _show(run(parts=only or (), quick=quick, llm=llm, seed=seed), as_json=as_json)


@app.command()
def conversation(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this scenario; may be repeated. questions, sequential, pauses, "
            "interruptions, sounds, television, alone; the long ones music, duet, stuck, "
            "monologue."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer trials of each.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="How long it speaks with nobody there.", min=0.1)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a waterfall of every answer's time (PNG).")
    ] = None,
    llm: LlmOption = DEFAULT_LLM,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Questions, pauses, interruptions and noises in a virtual room, heard from outside."""
    from appliance.bench.conversation import run

    result = run(scenarios=only or (), quick=quick, minutes=minutes, llm=llm, seed=seed, plot=plot)
    if as_json:
        _show(result, as_json=True)
        return
    table = Table("figure", "value", "required", "aim", "", box=None)
    table.columns[1].justify = "right"
    targets = {target["figure"]: target for target in result["targets"]}
    for name, value in result["figures"].items():
        shown = "–" if value is None else f"{value:g}"
        if (target := targets.get(name)) is None:
            table.add_row(name, shown)
            continue
        sign = "≥" if target["at_least"] else "≤"
        verdict = {True: "ok", False: "MISSED", None: ""}[target["passed"]]
        table.add_row(name, shown, f"{sign} {target['required']:g}", f"{target['aim']:g}", verdict)
    Console().print(table)

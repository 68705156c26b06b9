"""``appliance front-end``: the audio front-end over recordings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from appliance import config as configuration
from appliance.errors import ApplianceError

notes = Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def front_end(
    *,
    mic: Annotated[Path, typer.Option(help="Recording of the microphones, all channels.")],
    out: Annotated[Path, typer.Option(help="Where the cleaned speech goes: mono WAV.")],
    reference: Annotated[
        Path | None, typer.Option(help="What the loudspeaker played, from the same moment on.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Write figures per second and in sum to this JSON file.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Another configuration file.")] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Start from what is in this file, if it exists, and write it anew."),
    ] = None,
    bypass: Annotated[
        list[str] | None, typer.Option(help="Leave a stage out; may be repeated.", metavar="STAGE")
    ] = None,
    channel_map: Annotated[
        str, typer.Option(help="Which channels of the file are microphones: 0,2,3,1 (from 0).")
    ] = "",
    out_rate: Annotated[
        int, typer.Option(help="Sample rate of the output in Hz.", min=8_000, max=192_000)
    ] = 16_000,
) -> None:
    """Run the audio front-end over a recording: remove echo and noise, keep the near-end.

    The output is as long as the recording and aligned with it, whatever the latency of the chain.
    """
    from appliance.audio.files import inspect_speech
    from appliance.capture.chain import STAGES, FrontEnd
    from appliance.capture.geometry import array_of
    from appliance.capture.offline import Files, filter_recording

    settings = configuration.load(config)
    bypassed = frozenset(bypass or ())
    if unknown := sorted(bypassed - set(STAGES)):
        raise ApplianceError(
            f"There is no stage {unknown[0]}. The stages are: {', '.join(STAGES)}."
        )

    info = inspect_speech(mic)
    array = array_of(settings.front_end)
    microphones = _numbers(channel_map)
    if not microphones and info.channels != len(array.positions_m):
        microphones = list(array.check(info.channels))

    def create(channels: int) -> FrontEnd:
        chain = FrontEnd(settings.front_end, channels, models_path=settings.models_path)
        chain.bypass = bypassed
        return chain

    files = Files(mic=mic, reference=reference, out=out, metrics=metrics, state=state)
    files.check()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=notes,
        disable=not notes.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(mic.name, total=info.duration_s)
        result = filter_recording(
            files,
            create,
            channel_map=microphones,
            out_rate_hz=out_rate,
            advance=lambda seconds: progress.advance(task, seconds),
        )
    summary = result["summary"]
    notes.print(
        f"{out}: {summary['audio_s']:.1f} s, aligned with the recording "
        f"(latency {result['latency_ms']:.1f} ms, removed); "
        f"real-time factor {summary['real_time_factor']:.3f}"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")] if text else []
    except ValueError as error:
        raise ApplianceError(
            f"--channel-map takes channel numbers with commas between, not {text}."
        ) from error

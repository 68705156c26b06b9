"""How the front-end fares when one thing gets worse: a plot for each sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.bench.front_end import in_processes
from appliance.bench.front_end_measures import double_talk_quality, erle_within_db
from appliance.bench.front_end_processors import NLMS, SPEEX
from appliance.bench.front_end_rows import CHAIN
from appliance.bench.scenes import Script, make_scene
from appliance.errors import ApplianceError

_SCRIPT: Script = (("far-only", 10.0), ("double-talk", 8.0))
_ERLE_BETWEEN_S = (5.0, 10.0)
_CANDIDATES = (CHAIN, SPEEX, NLMS)
_LABELS = {"erle": "ERLE [dB]", "sdr": "double-talk SDR [dB]", "stoi": "double-talk STOI"}


@dataclass(frozen=True)
class Sweep:
    """One setting of the scenes through its values."""

    setting: str
    """Argument of `make_scene`."""
    label: str
    values: tuple[float, ...]
    delay_ms: float = 0.0
    """Elsewhere 0; devices whose clocks differ are never without."""


SWEEPS: dict[str, Sweep] = {
    "echo-level": Sweep("echo_db", "echo above user [dB]", (-5, 0, 5, 10, 15, 20)),
    "rt60": Sweep("rt60_s", "RT60 [s]", (0.15, 0.3, 0.45, 0.6)),
    "drift": Sweep("drift_ppm", "clock drift [ppm]", (-200, -100, -30, 0, 30, 100, 200), 80),
    "delay": Sweep("delay_ms", "unknown delay [ms]", (0, 50, 100, 200, 400)),
    "noise": Sweep("noise_snr_db", "SNR in pink noise [dB]", (0, 5, 10, 20, 30)),
}

Point = dict[str, dict[str, float]]
"""By candidate and figure."""


def draw(folder: Path, seeds: Sequence[int]) -> Iterator[Path]:
    """Measure and plot every sweep as `front-end-*.png`; give each file once it is written.

    Raises:
        ApplianceError: matplotlib is not installed (it comes with the development tools).
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ApplianceError(
            "Plots need matplotlib: install the development dependencies."
        ) from error
    mpl.use("Agg")
    tasks = [
        (name, value, seed)
        for name, sweep in SWEEPS.items()
        for value in sweep.values
        for seed in seeds
    ]
    points = dict(zip(tasks, in_processes(_measure, tasks), strict=True))
    for name in SWEEPS:
        path = folder / f"front-end-{name}.png"
        _plot(name, seeds, points, path)
        yield path


def _measure(task: tuple[str, float, int]) -> Point:
    name, value, seed = task
    sweep = SWEEPS[name]
    settings = {"delay_ms": sweep.delay_ms, sweep.setting: value}
    scene = make_scene(seed, script=_SCRIPT, **settings)  # type: ignore[arg-type]
    result: Point = {}
    for candidate in _CANDIDATES:
        output = candidate.run(scene)
        quality = double_talk_quality(scene, output)
        result[candidate.name] = {
            "erle": erle_within_db(scene, output, *_ERLE_BETWEEN_S),
            "sdr": quality["sdr"][0],
            "stoi": quality["stoi"][0],
        }
    return result


def _plot(
    name: str,
    seeds: Sequence[int],
    points: dict[tuple[str, float, int], Point],
    path: Path,
) -> None:
    """Median over the scenes as a line, quartiles as a band."""
    from matplotlib import pyplot as plt

    sweep = SWEEPS[name]
    figure, panels = plt.subplots(1, len(_LABELS), figsize=(11, 3.2), layout="constrained")
    for panel, (measured, label) in zip(panels, _LABELS.items(), strict=True):
        for candidate in (candidate.name for candidate in _CANDIDATES):
            values = np.array(
                [
                    [points[name, value, seed][candidate][measured] for seed in seeds]
                    for value in sweep.values
                ]
            )
            low, middle, high = np.percentile(values, (25, 50, 75), axis=1)
            panel.plot(sweep.values, middle, marker="o", markersize=3, label=candidate)
            panel.fill_between(sweep.values, low, high, alpha=0.15)
        panel.set(xlabel=sweep.label, ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)

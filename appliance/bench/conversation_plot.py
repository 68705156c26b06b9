"""Where the time of every answer went: a waterfall of each turn, ours above the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.bench.conversation_trials import Asked
from appliance.bench.sequential import SequentialTurn
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES_PER_TURN = 0.14


def draw(questions: Sequence[Asked], baseline: Sequence[SequentialTurn], path: Path) -> None:
    """Write the plot as a PNG; both panels have the same time axis.

    Raises:
        ApplianceError: matplotlib is not installed (it comes with the development tools), or the
            file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ApplianceError(
            "Plots need matplotlib: install the development dependencies."
        ) from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ours = sorted(
        (q for q in questions if q.acoustic_ms is not None and q.contributions_ms),
        key=lambda question: question.acoustic_ms or 0.0,
    )
    theirs = sorted(baseline, key=lambda turn: turn.voice_to_voice_ms)
    panels = [(ours, "appliance")] + ([(theirs, "sequential baseline")] if theirs else [])
    counts = [max(4, len(turns)) for turns, _ in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        sharex=True,
        squeeze=False,
        figsize=(9, 1.5 + _INCHES_PER_TURN * sum(counts)),
        height_ratios=counts,
        layout="constrained",
    )
    for panel, (turns, title) in zip(axes[:, 0], panels, strict=True):
        _stack(panel, [turn.contributions_ms for turn in turns])
        panel.set(title=title, ylabel="turn", yticks=[])
        panel.grid(axis="x", alpha=0.3)
    times = [question.acoustic_ms or 0.0 for question in ours]
    axes[0, 0].plot(times, range(len(times)), "k|", markersize=6, label="measured in the air")
    for panel in axes[:, 0]:
        panel.legend(fontsize=7, loc="lower right")
    axes[-1, 0].set(xlabel="since the user's last word [ms]", xlim=(0, None))
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ApplianceError(f"Cannot write the plot {path}: {error.strerror}.") from error
    finally:
        plt.close(figure)


def _stack(panel: Axes, turns: Sequence[Mapping[str, float]]) -> None:
    """One bar for each turn, its contributions end to end."""
    reached = [0.0] * len(turns)
    for stage in dict.fromkeys(stage for turn in turns for stage in turn):
        widths = [turn.get(stage, 0.0) for turn in turns]
        panel.barh(range(len(turns)), widths, left=reached, height=0.8, label=stage)
        reached = [start + width for start, width in zip(reached, widths, strict=True)]

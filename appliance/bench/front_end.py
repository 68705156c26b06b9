"""The audio front-end over simulated rooms: the table of figures, sweeps, cost.

Rooms and people are held out: nothing of the front-end was tuned on them.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from appliance.audio.blocks import RATE_HZ
from appliance.bench.front_end_measures import Measured, Values
from appliance.bench.front_end_processors import Candidate, Chain, chain
from appliance.bench.front_end_rows import CHAIN, ROWS, Row
from appliance.bench.report import machine, report
from appliance.bench.scenes import make_scene
from appliance.bench.talkers import FIRST_HELD_OUT_SEED
from appliance.capture.chain import STAGES
from appliance.errors import ApplianceError

QUICK_SEEDS = 4
_SWEEP_SEEDS = 6
_PROCESSES = 2
_COST_S = 30.0
_COSTS = ((CHAIN, 0.06), (chain("gtcrn", noise_suppressor="gtcrn"), 0.12))
"""Real-time factors that must not be exceeded."""
_P99_TARGET_MS = 3.0

Entry = dict[str, Any]
"""One figure of one row at one RT60, as in the report's `rows`."""

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def run(
    *,
    rows: Sequence[str] = (),
    seeds: int = 20,
    quick: bool = False,
    ablation: bool = False,
    plots: Path | None = None,
) -> dict[str, Any]:
    """Measure and report.

    Args:
        rows: names of `ROWS`, or `cost`; all when empty.
        seeds: held-out scenes of each row.
        quick: fewer scenes.
        ablation: the chain without each stage besides.
        plots: folder for a plot of each sweep; None for no sweeps.

    Raises:
        ApplianceError: no such row; or the appliance lacks what the bench needs.
    """
    if unknown := set(rows) - {*ROWS, "cost"}:
        raise ApplianceError(
            f"There is no row {min(unknown)}. The rows are: {', '.join((*ROWS, 'cost'))}."
        )
    before = machine()
    if quick:
        seeds = min(seeds, QUICK_SEEDS)
    chosen = [name for name in ROWS if not rows or name in rows]
    held_out = range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + seeds)
    table: list[Entry] = []
    if chosen:
        tasks = [(seed, chosen, ablation) for seed in held_out]
        table += _tabulate(chosen, list(in_processes(_measure, tasks)))
    if not rows or "cost" in rows:
        table += _cost()
    written: list[str] = []
    if plots is not None:
        from appliance.bench.front_end_sweeps import draw

        written = [str(path) for path in draw(plots, held_out[:_SWEEP_SEEDS])]
    command = " ".join(
        [
            f"appliance bench front-end --json --seeds {seeds}",
            *(f"--row {name}" for name in rows),
            *(["--ablation"] if ablation else []),
            *([f"--plots {plots}"] if plots else []),
        ]
    )
    result = report(_flat(table), command=command, seed=FIRST_HELD_OUT_SEED, before=before)
    return {**result, "rows": table, "plots": written}


def in_processes(work: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
    """Results in order, by two processes with one thread each; `work` must be importable."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(_PROCESSES, len(tasks)), mp_context=context) as pool:
        yield from pool.map(work, tasks)


def _measure(task: tuple[int, list[str], bool]) -> dict[tuple[str, float], Measured]:
    """All rows of one seed, so that its rooms are simulated once."""
    seed, names, ablation = task
    return {
        (name, rt60_s): ROWS[name].measure(seed, rt60_s, _candidates(ROWS[name], ablation))
        for name in names
        for rt60_s in ROWS[name].rt60_s
    }


def _candidates(row: Row, ablation: bool) -> tuple[Candidate, ...]:
    if not (ablation and row.ablated):
        return row.candidates
    return *row.candidates, *(chain(f"without_{stage}", without=(stage,)) for stage in STAGES)


def _tabulate(
    names: Sequence[str], scenes: Sequence[dict[tuple[str, float], Measured]]
) -> list[Entry]:
    table = []
    for name in names:
        row = ROWS[name]
        for rt60_s in row.rt60_s:
            pooled = _pool([scene[name, rt60_s] for scene in scenes])
            for figure in row.figures:
                target = figure.targets.get(rt60_s)
                entry: Entry = {
                    "row": name,
                    "rt60_s": rt60_s,
                    "figure": figure.name,
                    "target": target,
                    "at_least": figure.at_least,
                    "values": {},
                    "quartiles": {},
                }
                for candidate, values in pooled.items():
                    if figure.measured and figure.measured not in values:
                        continue
                    entry["values"][candidate] = round(figure.reduce(pooled, candidate), 3)
                    if figure.measured:
                        quartiles = np.percentile(values[figure.measured], (25, 75))
                        entry["quartiles"][candidate] = [round(float(q), 3) for q in quartiles]
                if target is not None:
                    reached = entry["values"][row.candidates[0].name]
                    entry["passed"] = figure.passes(reached, target)
                table.append(entry)
    return table


def _pool(scenes: Sequence[Measured]) -> dict[str, dict[str, Values]]:
    pooled: dict[str, dict[str, Values]] = defaultdict(lambda: defaultdict(list))
    for scene in scenes:
        for candidate, figures in scene.items():
            for figure, values in figures.items():
                pooled[candidate][figure] += values
    return pooled


def _cost() -> list[Entry]:
    """Of a busy scene with four microphones: CPU of this thread, and how long blocks take."""
    scene = make_scene(
        FIRST_HELD_OUT_SEED,
        script=(("double-talk", _COST_S),),
        noise_snr_db=15.0,
        drift_ppm=50.0,
    )
    table: list[Entry] = []
    for candidate, factor_target in _COSTS:
        processor = candidate.create()
        assert isinstance(processor, Chain)
        started_s = time.thread_time()
        candidate.run(scene, processor)
        cpu_s = time.thread_time() - started_s
        values = {
            "real_time_factor": (cpu_s * RATE_HZ / scene.mic.shape[1], factor_target),
            "block_p50_ms": (float(np.percentile(processor.block_ms, 50)), None),
            "block_p99_ms": (float(np.percentile(processor.block_ms, 99)), _P99_TARGET_MS),
        }
        for figure, (value, target) in values.items():
            table.append(
                {
                    "row": "cost" if candidate is CHAIN else f"cost-{candidate.name}",
                    "rt60_s": 0.3,
                    "figure": figure,
                    "target": target,
                    "at_least": False,
                    "values": {candidate.name: round(value, 4)},
                    "quartiles": {},
                    **({} if target is None else {"passed": value <= target}),
                }
            )
    return table


def _flat(table: Sequence[Entry]) -> dict[str, float]:
    """Figures by name, for the report."""
    figures: dict[str, float] = {}
    for entry in table:
        where = f"{entry['row'].replace('-', '_')}_rt60_{round(1000 * entry['rt60_s'])}ms"
        for candidate, value in entry["values"].items():
            figures[f"{where}_{candidate}_{entry['figure']}"] = value
    return figures

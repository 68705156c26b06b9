"""What all benchmarks have in common: the report, the machine it was measured on, percentiles."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil


def machine() -> dict[str, Any]:
    """What the figures depend on. The load averages tell whether it was quiet."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_1min": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    # x86 has "model name"; an ARM board tells more in the device tree
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    board = Path("/proc/device-tree/model")
    if not names and board.exists():
        names = [board.read_text(encoding="utf-8", errors="replace").strip("\0\n ")]
    return names[0] if names else platform.processor() or "unknown"


def report(
    figures: dict[str, float], *, command: str, seed: int, before: dict[str, Any]
) -> dict[str, Any]:
    """The object that every benchmark prints.

    Args:
        figures: flat, units in the names.
        command: how to measure it again.
        seed: of everything random.
        before: ``machine()`` as it was before the benchmark loaded it.
    """
    return {"figures": figures, "machine": before, "command": command, "seed": seed}


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def percentiles(prefix: str, values: Sequence[float], unit: str) -> dict[str, float]:
    """``{prefix}_p50_{unit}``, ``_p99_`` and ``_max_``."""
    p50, p99, top = np.percentile(np.asarray(values), (50, 99, 100))
    return {
        f"{prefix}_p50_{unit}": round(float(p50), 3),
        f"{prefix}_p99_{unit}": round(float(p99), 3),
        f"{prefix}_max_{unit}": round(float(top), 3),
    }

"""The machine under the appliance: processors, memory, disk, temperatures. On request only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

from appliance.health import resources, temperatures_c


class Machine:
    """What was measured last, by `sample`.

    Args:
        folder: on the disk whose room is of interest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cpu_s: dict[int, tuple[float, float]] = {}

    def sample(self, health: dict[str, Any]) -> dict[str, Any]:
        """Measure, with the processor's share since the last sample, in percent of one core.

        Args:
            health: a snapshot of the board, for the process ids.
        """
        now_s = time.monotonic()
        processes, seen = {}, {}
        for label, entry in health["processes"].items():
            figures: dict[str, Any] = dict(resources(entry["pid"])) if "pid" in entry else {}
            if figures:
                pid, cpu_s = entry["pid"], figures["cpu_s"]
                seen[pid] = (cpu_s, now_s)
                if before := self._cpu_s.get(pid):
                    figures["cpu_percent"] = round(
                        100 * (cpu_s - before[0]) / max(now_s - before[1], 0.1), 1
                    )
            processes[label] = figures
        self._cpu_s = seen
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        return {
            "processes": processes,
            "memory": {
                "total_mb": round(memory.total / 1e6),
                "available_mb": round(memory.available / 1e6),
            },
            "disk": {"total_gb": round(disk.total / 1e9, 1), "free_gb": round(disk.free / 1e9, 1)},
            "temperatures_c": temperatures_c(),
            "load": psutil.getloadavg()[0],
        }

"""Who is alive and well, from heartbeats alone; and what the machine says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

from appliance.messages import Heartbeat
from appliance.processes import PROCESSES, ProcessSpec


@dataclass
class Board:
    """The latest heartbeat of every process instance, and how old it is."""

    processes: Mapping[str, ProcessSpec] = field(default_factory=lambda: PROCESSES)
    _latest: dict[tuple[str, int], tuple[Heartbeat, int]] = field(default_factory=dict)

    def note(self, beat: Heartbeat, now_ns: int) -> None:
        """Take a heartbeat."""
        self._latest[beat.process, beat.instance] = (beat, now_ns)

    def complete(self) -> bool:
        """Whether every instance of the table has been heard of."""
        return all(
            (spec.name, instance) in self._latest
            for spec in self.processes.values()
            for instance in range(spec.instances)
        )

    def active_instance(self, process: str) -> int | None:
        """Which instance does the work now; None when none is known to."""
        for (name, instance), (beat, _) in self._latest.items():
            if name == process and beat.state in ("ready", "degraded"):
                return instance
        return None

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """The state of everything, ready for JSON.

        ``ready`` is true when each process has one instance that is ready and heard of within
        its deadline: only then is a spoken question answered.
        """
        processes = {}
        ready = True
        for spec in self.processes.values():
            active = False
            for instance in range(spec.instances):
                label = spec.name if spec.instances == 1 else f"{spec.name}.{instance}"
                entry = self._entry(spec, instance, now_ns)
                processes[label] = entry
                active = active or entry["state"] == "ready"
            ready = ready and active
        return {"ready": ready, "processes": processes}

    def _entry(self, spec: ProcessSpec, instance: int, now_ns: int) -> dict[str, Any]:
        if (spec.name, instance) not in self._latest:
            return {"state": "down", "detail": "no heartbeat"}
        beat, heard_ns = self._latest[spec.name, instance]
        age_ms = (now_ns - heard_ns) / 1e6
        late = age_ms > spec.deadline_ms and beat.state != "starting"
        return {
            "state": "silent" if late else beat.state,
            "detail": beat.detail,
            "pid": beat.pid,
            "heartbeat_age_ms": round(age_ms),
            "uptime_s": round((now_ns - beat.life) / 1e9, 1),
            "restarts": beat.restarts,
            "busy_ms": beat.busy_ms,
            "counters": beat.counters,
        }


def resources(pid: int) -> dict[str, float]:
    """CPU seconds and memory of a process; empty when it has gone or is not ours to see.

    Memory is PSS: shared pages count once over all processes that share them.
    """
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return {
            "cpu_s": round(times.user + times.system, 2),
            "pss_mb": round(process.memory_full_info().pss / 1e6, 1),
        }
    except psutil.Error:
        return {}


def temperatures_c() -> dict[str, float]:
    """The hottest sensor of each kind; empty where the machine shows none."""
    return {
        name: round(max(sensor.current for sensor in sensors), 1)
        for name, sensors in psutil.sensors_temperatures().items()
        if sensors
    }

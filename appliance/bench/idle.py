"""What the appliance costs when nobody speaks: CPU and memory of each process."""

from __future__ import annotations

import time

import psutil

from appliance.bench.report import machine, report
from appliance.bench.rig import private_appliance
from appliance.client import ApplianceClient
from appliance.health import resources

_SETTLE_S = 5.0


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def run(*, seconds: float, llm: str) -> dict[str, object]:
    """Let it listen to silence for a while; returns the report. The sound server is not counted."""
    before = machine()
    with (
        private_appliance({"APPLIANCE_LLM__MODEL": llm}) as rig,
        ApplianceClient(rig.config) as client,
    ):
        client.wait_ready(10)
        pids = {
            name.replace(".", "_"): entry["pid"]
            for name, entry in client.status()["processes"].items()
        }
        pids["supervisor"] = rig.process.pid
        time.sleep(_SETTLE_S)
        started = {name: (_cpu_s(pid), time.monotonic()) for name, pid in pids.items()}
        time.sleep(seconds)
        percent = {
            name: 100 * (_cpu_s(pid) - started[name][0]) / (time.monotonic() - started[name][1])
            for name, pid in pids.items()
        }
        memory = {name: resources(pid)["pss_mb"] for name, pid in pids.items()}
    figures = {"cpu_percent_of_a_core": sum(percent.values()), "pss_mb": sum(memory.values())}
    figures |= {f"{name}_cpu_percent": value for name, value in percent.items()}
    figures |= {f"{name}_pss_mb": value for name, value in memory.items()}
    return report(
        {name: round(value, 2) for name, value in figures.items()},
        command=f"appliance bench idle --seconds {seconds:g} --llm {llm} --json",
        seed=0,
        before=before,
    )

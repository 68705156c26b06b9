"""How long a killed process takes to be back, and how long the whole appliance takes to start."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from appliance.bench.report import machine, report
from appliance.bench.rig import private_appliance
from appliance.client import ApplianceClient
from appliance.errors import ApplianceError
from appliance.messages import AudioGap
from appliance.processes import PROCESSES

_BOUND_S = 30.0
_CALM_S = 12.0
"""Between kills of one process: more than three in 30 s would meet the restart limit."""


def kill_once(client: ApplianceClient, process: str) -> tuple[float, float]:
    """Kill the working instance of a process.

    Returns:
        Seconds until a ready one is there, and milliseconds of audio that were lost (capture).
    """
    client.wait_ready(_BOUND_S)
    victim = client.working_pid(process)
    if not victim:  # a signal to 0 is one to this very process group
        raise ApplianceError(f"{process} is not at work: see its lines in the log")
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    lost_ms = 0.0
    deadline = killed + _BOUND_S
    while time.monotonic() < deadline:
        message = client.pump(20)
        if isinstance(message, AudioGap):
            lost_ms = message.lost_ms
        if client.working_pid(process) not in (victim, 0):
            back_s = time.monotonic() - killed
            if process == "capture" and not lost_ms:
                continue  # the gap is known with the first block
            return back_s, lost_ms
    raise ApplianceError(f"{process} did not come back within {_BOUND_S:.0f} s")


def run(*, repeats: int, llm: str) -> dict[str, object]:
    """Kill every process in turn; returns the report."""
    before = machine()
    back_s: dict[str, list[float]] = {name: [] for name in PROCESSES}
    lost_ms: list[float] = []
    others_restarted = 0
    with (
        private_appliance({"APPLIANCE_LLM__MODEL": llm}) as rig,
        ApplianceClient(rig.config) as client,
    ):
        started_s = rig.ready_after_s
        for _ in range(repeats):
            for process in PROCESSES:
                client.wait_ready(_BOUND_S)
                others = {n: client.working_pid(n) for n in PROCESSES if n != process}
                seconds, lost = kill_once(client, process)
                back_s[process].append(seconds)
                if process == "capture":
                    lost_ms.append(lost)
                client.wait_ready(_BOUND_S)
                others_restarted += sum(client.working_pid(n) != pid for n, pid in others.items())
            client.wait_for(lambda: False, _CALM_S)
    figures = {"start_to_ready_s": started_s, "other_processes_restarted": others_restarted}
    for process, values in back_s.items():
        figures[f"{process}_back_p50_s"] = float(np.median(values))
        figures[f"{process}_back_max_s"] = max(values)
    figures["capture_audio_lost_p50_ms"] = float(np.median(lost_ms))
    figures["capture_audio_lost_max_ms"] = max(lost_ms)
    return report(
        {name: round(value, 3) for name, value in figures.items()},
        command=f"appliance bench recovery --repeats {repeats} --llm {llm} --json",
        seed=0,
        before=before,
    )

"""The systemd units, generated from the table of processes.

``python -m appliance.systemd`` rewrites ``systemd/``; a test compares it with the table.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.config import ENV_RUNTIME_DIR, PROJECT_ROOT
from appliance.processes import PROCESSES, ProcessSpec

UNITS_DIR = PROJECT_ROOT / "systemd"
INSTALL_DIR = "/opt/voice-appliance"
USER = "voice-appliance"
TARGET = "voice-appliance.target"
_HEAD = "# Generated from appliance/processes.py by 'python -m appliance.systemd'.\n"


def unit_file(spec: ProcessSpec) -> str:
    """File name of a process's unit: a template when it has several instances."""
    at = "@" if spec.instances > 1 else ""
    return f"voice-appliance-{spec.name}{at}.service"


def unit_names(spec: ProcessSpec) -> list[str]:
    """Names of the units to start for a process."""
    if spec.instances == 1:
        return [unit_file(spec)]
    return [f"voice-appliance-{spec.name}@{number}.service" for number in range(spec.instances)]


def render_unit(spec: ProcessSpec) -> str:
    """Text of a process's unit.

    ``Type=notify``: up when the process says so. The watchdog ends a process that falls silent
    with SIGABRT, on which it writes its stacks to the journal. Restarts never end: what stops a
    process (a full ``/dev/shm``, a missing model) may pass, and ``ipc/process.py`` paces them.
    """
    nice = f"Nice={spec.nice}\n" if spec.nice else ""
    instance = " %i" if spec.instances > 1 else ""
    state = "StateDirectory=voice-appliance\nStateDirectoryMode=0700\n" if spec.keeps_state else ""
    return f"""{_HEAD}[Unit]
Description=Voice appliance: {spec.name} ({spec.purpose})
PartOf={TARGET}
After=sound.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={INSTALL_DIR}/.venv/bin/python -m appliance.ipc.process {spec.name}{instance}
WorkingDirectory={INSTALL_DIR}
User={USER}
SupplementaryGroups=audio
Environment={ENV_RUNTIME_DIR}=/run/voice-appliance PYTHONUNBUFFERED=1
RuntimeDirectory=voice-appliance
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
{state}{nice}TimeoutStartSec={spec.start_timeout_ms / 1000:g}
WatchdogSec={spec.deadline_ms / 1000:g}
WatchdogSignal=SIGABRT
TimeoutStopSec=2
Restart=always
RestartSec=0.1

[Install]
WantedBy={TARGET}
"""


def render_target() -> str:
    """Text of the target that starts and stops everything."""
    wants = " ".join(name for spec in PROCESSES.values() for name in unit_names(spec))
    return f"""{_HEAD}[Unit]
Description=Private voice appliance
Wants={wants}

[Install]
WantedBy=multi-user.target
"""


def render_all() -> dict[str, str]:
    """Every file of ``systemd/`` by name."""
    return {
        TARGET: render_target(),
        **{unit_file(spec): render_unit(spec) for spec in PROCESSES.values()},
    }


def main(folder: Path = UNITS_DIR) -> None:
    """Write the units."""
    folder.mkdir(exist_ok=True)
    for name, text in render_all().items():
        (folder / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()

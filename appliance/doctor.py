"""``appliance doctor``: looks at everything the appliance needs and says what to fix."""

from __future__ import annotations

import grp
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from appliance.audio.devices import find_device, list_devices, open_portaudio
from appliance.capture.geometry import array_of, input_channels
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, SPEAKER_RING
from appliance.ipc.segment import SHM_DIR
from appliance.models.store import FileState, ModelStore
from appliance.processes import PROCESSES, REMOTE_SESSIONS
from appliance.run import wants_loopback

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""
    """What to do, when something is to be done."""


def examine(config: Config) -> Iterator[Finding]:
    """All findings, in order; a check that fails in an unforeseen way becomes a finding too."""
    checks: list[tuple[str, Callable[[Config], Iterator[Finding]]]] = [
        ("devices", _devices),
        ("permissions", _permissions),
        ("memory", _memory),
        ("shared memory", _shared_memory),
        ("models", _models),
        ("clock", _clock),
        ("cpu", _cpu),
        ("runtime folder", _runtime_dir),
    ]
    for name, check in checks:
        try:
            yield from check(config)
        except ApplianceError as error:
            yield Finding(name, "error", str(error))


def _devices(config: Config) -> Iterator[Finding]:
    array, wanted = array_of(config.front_end), input_channels(config)
    used = ", ".join(map(str, array.check(wanted)))
    yield Finding("array", "ok", f"{array.name}: channel(s) {used} of {wanted}, counted from 0")
    if wants_loopback(config):
        missing = [p for p in ("pulseaudio", "pactl") if shutil.which(p) is None]
        if missing:
            yield Finding(
                "devices",
                "error",
                "no sound card, and no PulseAudio for virtual devices",
                "plug in a microphone and a loudspeaker, or: apt-get install pulseaudio "
                "pulseaudio-utils libasound2-plugins",
            )
        else:
            yield Finding(
                "devices",
                "warning",
                "no sound card: 'appliance run' talks to itself through virtual devices",
                "plug in a microphone and a loudspeaker, then look at 'appliance devices'",
            )
        return
    portaudio = open_portaudio()
    try:
        devices = list_devices(portaudio)
        yield Finding("devices", "ok", f"{len(devices)} found")
        fix = (
            ""
            if wanted == 1
            else "plug in the array, or choose the [front_end] array that you have"
        )
        for direction, selector, channels in (
            ("input", config.audio.input_device, wanted),
            ("output", config.audio.output_device, 1),
        ):
            try:
                device = find_device(portaudio, selector, direction, channels)  # type: ignore[arg-type]
            except ApplianceError as error:
                yield Finding(
                    f"{direction} device", "error", str(error), fix if direction == "input" else ""
                )
            else:
                yield Finding(
                    f"{direction} device",
                    "ok",
                    f"{device.name}, {channels} of {device.channels(direction)} channel(s), "  # type: ignore[arg-type]
                    f"{device.default_rate_hz} Hz",
                )
    finally:
        portaudio.terminate()
    yield Finding(
        "echo",
        "ok",
        "not measured",
        "'appliance doctor --chirp' plays a chirp and tells what comes back",
    )


def _permissions(_config: Config) -> Iterator[Finding]:
    nodes = list(Path("/dev/snd").glob("pcm*")) if Path("/dev/snd").is_dir() else []
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        group = grp.getgrgid(closed[0].stat().st_gid).gr_name
        yield Finding(
            "permissions",
            "error",
            f"no access to {closed[0]}",
            f"usermod -aG {group} $USER, then log in again",
        )
    else:
        yield Finding("permissions", "ok", f"{len(nodes)} sound device nodes, all accessible")


def _memory(config: Config) -> Iterator[Finding]:
    needed_mb = sum(spec.memory_pss_mb * spec.instances for spec in PROCESSES.values())
    available_mb = psutil.virtual_memory().available / 1e6
    yield Finding(
        "memory",
        "ok" if available_mb > needed_mb else "warning",
        f"{available_mb:.0f} MB available, up to {needed_mb} MB used with {config.llm.model}",
        ""
        if available_mb > needed_mb
        else "set a smaller model: [llm] model = 'qwen2.5-coder-0.5b'",
    )


def _shared_memory(_config: Config) -> Iterator[Finding]:
    per_session = MIC_RING.segment_bytes + SPEAKER_RING.segment_bytes
    needed = (1 + len(REMOTE_SESSIONS)) * per_session
    free = psutil.disk_usage(str(SHM_DIR)).free
    enough = free > 2 * needed  # a successor's segment is made while readers still hold the old
    yield Finding(
        "shared memory",
        "ok" if enough else "error",
        f"/dev/shm has {free / 1e6:.0f} MB free, {2 * needed / 1e6:.0f} MB are needed",
        "" if enough else "mount -o remount,size=256M /dev/shm",
    )


def _models(config: Config) -> Iterator[Finding]:
    store = ModelStore(config.models_path)
    for name in ("silero-vad", config.asr.model, config.llm.model, config.tts.model):
        model = store.manifest.model(name)
        states = {file.path: store.peek(model, file) for file in model.files}
        bad = [path for path, state in states.items() if state is not FileState.OK]
        if bad:
            yield Finding(
                f"model {name}",
                "error",
                f"{bad[0]}: {states[bad[0]].value}",
                f"appliance models fetch {name}",
            )
        else:
            yield Finding(f"model {name}", "ok", f"{len(states)} file(s) in place")


def _clock(_config: Config) -> Iterator[Finding]:
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    source = _read(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"))
    steps = [time.monotonic_ns() for _ in range(1_000)]
    step_ns = min(b - a for a, b in itertools.pairwise(steps) if b > a)
    yield Finding(
        "clock",
        "ok" if step_ns < 100_000 else "warning",
        f"CLOCK_MONOTONIC steps of {step_ns} ns (resolution {resolution_ns:.0f} ns, "
        f"source {source or 'unknown'})",
        "" if step_ns < 100_000 else "choose a better clock source: kernel option clocksource=",
    )


def _cpu(_config: Config) -> Iterator[Finding]:
    governor = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    cores = os.cpu_count() or 1
    if governor in ("", "performance", "schedutil"):
        yield Finding("cpu", "ok", f"{cores} cores, governor {governor or 'not adjustable'}")
    else:
        yield Finding(
            "cpu",
            "warning",
            f"{cores} cores, governor {governor}: the first word of an answer comes later",
            "cpupower frequency-set -g performance (Jetson: nvpmodel -m 0; jetson_clocks)",
        )


def _runtime_dir(config: Config) -> Iterator[Finding]:
    path = config.prepare_runtime_dir()
    mounts = {m.mountpoint: m.fstype for m in psutil.disk_partitions(all=True)}
    place = next(str(p) for p in (path, *path.parents) if str(p) in mounts)
    in_memory = mounts[place] in ("tmpfs", "ramfs")
    yield Finding(
        "runtime folder",
        "ok" if in_memory else "warning",
        f"{path} on {mounts[place]}",
        "" if in_memory else "sockets work there too; a tmpfs (/run) spares the disk",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""``appliance run`` as a command: starts that cannot work say why on one line and leave nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.client import ApplianceClient
from appliance.ipc.bus import Client
from appliance.ipc.segment import FileLock, list_segments
from appliance.loopback.virtual_devices import LOUDSPEAKER, MICROPHONE, VirtualDevices
from appliance.messages import SayText

pytestmark = [pytest.mark.models, pytest.mark.slow]
PROJECT = configuration.PROJECT_ROOT


@pytest.fixture(scope="module")
def devices() -> Iterator[VirtualDevices]:
    with VirtualDevices() as running:
        yield running


@pytest.fixture
def environment(devices: VirtualDevices) -> Iterator[dict[str, str]]:
    with (
        tempfile.TemporaryDirectory(prefix="va-") as runtime,
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        yield {
            **os.environ,
            **devices.environment,
            "APPLIANCE_RUNTIME_DIR": runtime,
            "APPLIANCE_AUDIO__LOOPBACK": "never",
            "APPLIANCE_AUDIO__INPUT_DEVICE": MICROPHONE,
            "APPLIANCE_AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
            "APPLIANCE_LLM__MODEL": "qwen2.5-coder-0.5b",
            "APPLIANCE_ADMIN__PORT": str(port),
        }
        prefix = configuration.Config(runtime_dir=runtime).shm_prefix
        assert list_segments(prefix) == [], "left in /dev/shm"


def start(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *fragments: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    for fragment in fragments:
        assert fragment in result.stderr


def test_a_port_in_use(environment: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = start({**environment, "APPLIANCE_ADMIN__PORT": port}, "run")
    assert_refused(result, f"port {port} is taken", "admin.port", "Not started: admin")


def test_a_corrupt_model_names_the_file_and_the_repair(
    environment: dict[str, str], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(
        PROJECT / "models",
        models,
        copy_function=os.link,
        ignore=shutil.ignore_patterns("silero-vad", ".verified.json", ".partial"),
    )
    damaged = models / "silero-vad" / "silero_vad.onnx"
    damaged.parent.mkdir()
    original = (PROJECT / "models" / "silero-vad" / "silero_vad.onnx").read_bytes()
    damaged.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    result = start({**environment, "APPLIANCE_MODELS_DIR": str(models)}, "run")
    assert_refused(result, str(damaged), "appliance models fetch silero-vad", "Not started: vad")


def test_an_unknown_key_is_refused_before_anything_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "appliance.toml"
    path.write_text("[vad]\nfalback_ms = 500\n")
    result = start(environment, "--config", str(path), "run")
    assert_refused(result, f"{path}:2", "falback_ms", "fallback_ms")


def test_small_shared_memory(environment: dict[str, str]) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may mount a small /dev/shm of its own")
    result = subprocess.run(
        [
            *("unshare", "--mount", "--", "sh", "-c"),
            'mount -t tmpfs -o size=1M tmpfs /dev/shm && exec "$@"',
            *("sh", sys.executable, "-m", "appliance", "run"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert_refused(result, "/dev/shm is too small", "remount")


def test_a_runtime_folder_that_cannot_be_made(environment: dict[str, str]) -> None:
    result = start({**environment, "APPLIANCE_RUNTIME_DIR": "/proc/nowhere"}, "run")
    assert_refused(result, "/proc/nowhere", "APPLIANCE_RUNTIME_DIR")


def test_a_lock_that_another_holds_names_the_holder(environment: dict[str, str]) -> None:
    lock = FileLock(Path(environment["APPLIANCE_RUNTIME_DIR"]) / "appliance.lock")
    assert lock.acquire(about="4711 (started by somebody)")
    result = start(environment, "run")
    lock.release()
    assert_refused(result, "already running as process 4711 (started by somebody)")


def test_asking_starts_an_appliance_and_stops_it_again(environment: dict[str, str]) -> None:
    result = start(environment, "ask", "Say hello.", "--json")
    assert result.returncode == 0, result.stderr
    assert '"reply"' in result.stdout
    runtime = Path(environment["APPLIANCE_RUNTIME_DIR"])
    assert [p.name for p in runtime.iterdir() if p.suffix in (".pub", ".req")] == []


def test_a_killed_supervisor_takes_its_processes_along(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance", "run"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "Starting" in process.stderr.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = children.read_text().split()
    assert pids
    process.kill()
    process.wait()
    for line in process.stderr:  # ends when the last child that holds the pipe has gone
        assert "Traceback" not in line
    process.stderr.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _ours(pid)]
    result = start(environment, "ask", "Say hello.", "--json")  # sweeps up what was left
    assert result.returncode == 0, result.stderr


def test_without_its_loudspeaker_it_says_so_and_keeps_running(
    environment: dict[str, str],
) -> None:
    environment["APPLIANCE_AUDIO__OUTPUT_DEVICE"] = "nowhere"
    config = configuration.load(variables=environment)
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance", "run"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with ApplianceClient(config) as client:

            def state() -> dict[str, Any]:
                entry: dict[str, Any] = client.status(0)["processes"]["tts"]
                return entry

            assert client.wait_for(lambda: state()["state"] == "degraded", 30)
            assert "nowhere" in state()["detail"]
            assert client.wait_for(lambda: client.working_pid("conductor") > 0, 30)
            pid = state()["pid"]
            conductor = Client(config.runtime_path, "conductor")
            conductor.send(SayText(text="Nobody can hear this."))
            record = client.next_turn(20)
            conductor.close()
            assert record is not None
            assert record.outcome == "lost"
            assert not client.wait_for(lambda: state()["pid"] != pid, 1.0), "tts died of it"
            assert not client.is_ready()
    finally:
        process.terminate()
        process.wait(10)


def _ours(pid: str) -> bool:
    return b"appliance.ipc.process" in Path(f"/proc/{pid}/cmdline").read_bytes()

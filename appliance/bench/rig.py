"""A private appliance on virtual devices, for benches and tests: real processes, real models.

It has its own runtime folder, shared-memory prefix and port, so any number can run beside an
appliance that is in use.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance import config as configuration
from appliance.capture.geometry import input_channels
from appliance.client import ApplianceClient
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.loopback.virtual_devices import LOUDSPEAKER, MICROPHONE, VirtualDevices

START_BOUND_S = 60.0


def free_port() -> int:
    """A TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Rig:
    """One running appliance and the world around it."""

    config: Config
    devices: VirtualDevices
    environment: dict[str, str]
    """What a command line needs to reach this appliance."""
    process: subprocess.Popen[bytes]
    log_path: Path
    ready_after_s: float = 0.0

    @property
    def log(self) -> str:
        """All that the appliance has printed."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        """Stop as Ctrl-C does; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@contextlib.contextmanager
def private_appliance(overrides: Mapping[str, str] | None = None) -> Iterator[Rig]:
    """Start an appliance and wait until it is ready; everything is gone afterwards.

    Args:
        overrides: environment variables of the configuration, e.g. ``APPLIANCE_LLM__MODEL``.

    Raises:
        ApplianceError: it did not become ready; the message holds the end of its log.
    """
    channels = input_channels(configuration.load(variables={**os.environ, **(overrides or {})}))
    with (
        VirtualDevices(microphone_channels=channels) as devices,
        tempfile.TemporaryDirectory(prefix="va-", dir="/run" if os.getuid() == 0 else None) as run,
        tempfile.TemporaryDirectory(prefix="va-log-") as logs,
    ):
        own = {
            **devices.environment,
            configuration.ENV_RUNTIME_DIR: run,
            "APPLIANCE_AUDIO__INPUT_DEVICE": MICROPHONE,
            "APPLIANCE_AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
            "APPLIANCE_AUDIO__LOOPBACK": "never",
            "APPLIANCE_VAD__WAKE_WORD": "",
            "APPLIANCE_CONDUCTOR__ATTENTION": "open",
            "APPLIANCE_ADMIN__PORT": str(free_port()),
            "APPLIANCE_MIND__DATA_DIR": f"{run}/mind",
            **(overrides or {}),
        }
        environment = {**os.environ, **own}
        config = configuration.load(variables=environment)
        log_path = Path(logs) / "log"
        started = time.monotonic()
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                # it ends with the bench or test that started it, however that ends
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "appliance", "run"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        rig = Rig(config, devices, environment, process, log_path)
        try:
            with ApplianceClient(config) as client:
                ready = client.wait_for(
                    lambda: client.is_ready() or process.poll() is not None, START_BOUND_S
                )
            if not ready or process.poll() is not None:
                raise ApplianceError(f"The appliance did not start:\n{rig.log[-4000:]}")
            rig.ready_after_s = time.monotonic() - started
            yield rig
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

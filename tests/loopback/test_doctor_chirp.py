"""`appliance doctor --chirp` in a virtual room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.loopback.acoustics import shoebox
from appliance.loopback.loudspeaker import Loudspeaker
from appliance.loopback.room import VirtualRoom
from appliance.loopback.virtual_devices import LOUDSPEAKER, MICROPHONE, VirtualDevices

pytestmark = pytest.mark.loopback


def chirp(
    devices: VirtualDevices, runtime_dir: Path, **overrides: str
) -> dict[str, dict[str, Any]]:
    """The findings by what they are about."""
    result = subprocess.run(
        [sys.executable, "-m", "appliance", "doctor", "--chirp", "--json"],
        env={
            **os.environ,
            **devices.environment,
            "APPLIANCE_RUNTIME_DIR": str(runtime_dir),
            "APPLIANCE_AUDIO__INPUT_DEVICE": MICROPHONE,
            "APPLIANCE_AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
            "APPLIANCE_AUDIO__LOOPBACK": "never",
            **overrides,
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.stdout, result.stderr
    return {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}


def test_a_chirp_tells_delay_drift_echo_and_the_dead_microphone(tmp_path: Path) -> None:
    acoustics = shoebox(48_000, 4, echo_db=-6, noise_dbfs=-65)
    assert acoustics.echo is not None
    deaf = acoustics.echo * np.array([1, 1, 0, 1], np.float32)
    acoustics = replace(acoustics, echo=deaf)
    loudspeaker = Loudspeaker(drift_ppm=80, delay_ms=20)
    with (
        VirtualDevices(microphone_channels=4) as devices,
        VirtualRoom(devices.environment, acoustics, loudspeaker=loudspeaker),
    ):
        found = chirp(devices, tmp_path, APPLIANCE_AUDIO__INPUT_CHANNELS="4")
    verdicts = [found[f"microphone {number}"]["verdict"] for number in range(4)]
    assert verdicts == ["ok", "ok", "error", "ok"], found
    assert found["echo path"]["verdict"] == "ok", found["echo path"]
    detail = found["echo path"]["detail"]
    assert -90 <= int(detail.rpartition(": ")[2].removesuffix(" ppm")) <= -70, detail
    assert found["room"]["verdict"] == "ok", found["room"]
    assert found["echo cancellation"]["verdict"] == "ok", found["echo cancellation"]


def test_without_an_echo_it_says_which_plug_to_look_at(tmp_path: Path) -> None:
    with VirtualDevices() as devices:
        found = chirp(devices, tmp_path)
    assert found["microphone 0"]["verdict"] == "error"
    assert "does not hear the loudspeaker" in found["microphone 0"]["detail"]
    assert "echo cancellation" not in found

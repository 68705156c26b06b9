"""Mute in the running appliance: nothing is heard, and no restart opens the microphones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bench.rig import Rig, private_appliance
from appliance.client import ApplianceClient
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import subscribe
from appliance.loopback.acoustics import shoebox
from appliance.loopback.room import VirtualRoom
from appliance.messages import BlocksReady, ring_topic
from appliance.run import QUESTION

pytestmark = [pytest.mark.loopback, pytest.mark.models]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with private_appliance({"APPLIANCE_LLM__MODEL": "smollm2-135m"}) as running:
        yield running


def cli(rig: Rig, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        env=rig.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout + result.stderr


def loudest(rig: Rig, blocks: int) -> float:
    """The largest sample in the mic ring over so many blocks."""
    subscription = subscribe(rig.config.runtime_path, [ring_topic(MIC_RING.name)])
    reader = RingReader(rig.config.shm_prefix, MIC_RING.name)
    peak, seen = 0.0, 0
    while seen < blocks:
        message = subscription.receive(2_000)
        assert isinstance(message, BlocksReady)
        reader.announced(message, rewind_blocks=1)
        for block in reader.read():
            peak, seen = max(peak, float(abs(block.samples).max())), seen + 1
    subscription.close()
    reader.close()
    return peak


def test_muted_nothing_is_heard_even_after_a_kill(rig: Rig) -> None:
    acoustics = shoebox(48_000, 1, noise_dbfs=-50)
    with VirtualRoom(rig.devices.environment, acoustics), ApplianceClient(rig.config) as client:
        assert client.wait_ready(30)
        assert cli(rig, "mute").strip() == "not muted"
        assert loudest(rig, 20) > 0
        assert cli(rig, "mute", "on").strip() == "muted"
        assert loudest(rig, 50) == 0
        with pytest.raises(ApplianceError, match="the microphones are muted"):
            client.ask_recording(Path(QUESTION))
        victim = client.working_pid("capture")
        assert victim > 0, "0 is this very process group"
        os.kill(victim, signal.SIGKILL)
        assert client.wait_for(lambda: client.working_pid("capture") not in (0, victim), 10)
        assert loudest(rig, 50) == 0
        assert cli(rig, "mute").strip() == "muted"
        assert cli(rig, "mute", "off").strip() == "not muted"
        assert loudest(rig, 20) > 0

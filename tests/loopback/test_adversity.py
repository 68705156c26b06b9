"""What may happen to an appliance in a house: cables, odd files, clients that die, taken ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio.files import read_speech
from appliance.bench.rig import Rig, private_appliance
from appliance.client import Answer, ApplianceClient
from appliance.ipc.bus import Client
from appliance.loopback.virtual_devices import LOUDSPEAKER_SINK, MICROPHONE_SINK
from appliance.messages import InjectAudio

pytestmark = [pytest.mark.loopback, pytest.mark.models]

QUESTION = Path(__file__).parents[2] / "appliance" / "loopback" / "question.wav"
SINKS = (LOUDSPEAKER_SINK, MICROPHONE_SINK)
"""Always both: PulseAudio moves the streams of a sink that goes to one that stays."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with private_appliance({"APPLIANCE_LLM__MODEL": "qwen2.5-coder-0.5b"}) as running:
        yield running


@pytest.fixture
def client(rig: Rig) -> Iterator[ApplianceClient]:
    with ApplianceClient(rig.config) as client:
        assert client.wait_ready(30)
        yield client


def cli(rig: Rig, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "appliance", *arguments],
        env=rig.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def state_of(client: ApplianceClient, process: str) -> set[str]:
    entries = client.status(0)["processes"].items()
    return {entry["state"] for name, entry in entries if name.split(".")[0] == process}


@pytest.mark.parametrize("moment", ["speaking", "listening"])
def test_devices_that_vanish_in_the_middle_come_back_and_the_turn_goes_on(
    rig: Rig, client: ApplianceClient, moment: str
) -> None:
    def ask() -> Answer:
        with ApplianceClient(rig.config) as other:
            assert other.wait_ready(20)
            return other.ask_recording(QUESTION)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert client.wait_for(lambda: client.floor == moment, 30)
        for sink in SINKS:
            rig.devices.unplug(sink)
        for process in ("capture", "tts"):
            assert client.wait_for(lambda p=process: "degraded" in state_of(client, p), 10), process
        assert not client.is_ready()
        for sink in SINKS:
            rig.devices.plug(sink)
        assert client.wait_ready(20)
        answer = asking.result(60)
    assert answer.record.outcome == "answered"
    assert "Italy" in answer.record.transcript
    assert np.abs(answer.audio).max() > 0.05


def test_a_client_that_dies_while_it_speaks_does_not_close_the_ear(
    rig: Rig, client: ApplianceClient
) -> None:
    instance = client._board.active_instance("capture")
    assert instance is not None
    dying = Client(rig.config.runtime_path, "capture", instance)
    dying.send(InjectAudio(samples=bytes(4 * 1_600)))
    assert client.wait_for(lambda: dying.receive(0) is not None, 5)
    dying.close()

    def free_again() -> bool:
        probe = Client(rig.config.runtime_path, "capture", instance)
        probe.send(InjectAudio(samples=b"", last=True))
        answer = probe.receive(1_000)
        probe.close()
        return getattr(answer, "finished", False)

    assert client.wait_for(free_again, 10)
    assert "Italy" in client.ask_recording(QUESTION).record.transcript


def peak_kb(process: subprocess.Popen[str]) -> int:
    """The most memory that a process held until it ended.

    Not from `os.wait4`: that counts what this process held when it forked.
    """
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        if (found := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:
            peak = int(found[1])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return peak


def test_an_hour_is_asked_up_to_its_first_answer_in_little_memory(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    speech, rate_hz = read_speech(QUESTION)[0], 16_000
    with soundfile.SoundFile(path, "w", rate_hz, 2, "PCM_24") as file:
        file.write(np.repeat(speech[:, None], 2, axis=1))
        for _ in range(60):
            file.write(np.zeros((60 * rate_hz, 2), np.float32))
    with cli(rig, "ask", str(path), "--json") as process:
        most_kb = peak_kb(process)
        answer, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Italy" in json.loads(answer)["transcript"]
    assert 10_000 < most_kb < 250_000, "an hour as float32 alone is 230 MB"


def test_an_8_bit_stereo_recording_of_a_telephone_is_heard(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "telephone.wav"
    speech, _ = read_speech(QUESTION)
    soundfile.write(path, np.repeat(speech[::2, None], 2, axis=1), 8_000, subtype="PCM_U8")
    output, errors = cli(rig, "ask", str(path), "--json").communicate(timeout=60)
    assert "Italy" in json.loads(output)["transcript"], errors


def test_a_long_question_with_a_slash_is_no_path(rig: Rig) -> None:
    text = "Say hello and/or goodbye to my good friends. " * 8
    process = cli(rig, "ask", text, "--json")
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert json.loads(output)["transcript"] == text


def test_a_text_without_end_is_refused_in_one_line(rig: Rig) -> None:
    process = cli(rig, "say", "word " * 2_000)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "too many" in errors
    assert len(errors.strip().splitlines()) == 1


def test_an_answer_may_take_longer_than_the_patience_with_silence(
    client: ApplianceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.client._ANSWER_BOUND_S", 2.0)
    answer = client.say("One, two, three, four, five, six, seven. Eight, nine, ten, eleven.")
    assert answer.record.outcome == "answered"
    assert len(answer.audio) > 3 * 16_000, "the test needs an answer that takes longer"


def test_a_process_that_worked_is_started_again_whatever_stops_it_for_a_while(
    rig: Rig, client: ApplianceClient
) -> None:
    port = rig.config.admin.port
    victim = client.working_pid("admin")
    assert victim > 0, "0 is this very process group"
    os.kill(victim, signal.SIGKILL)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def taken() -> bool:
            try:
                thief.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

        assert client.wait_for(taken, 5)
        thief.listen()
        assert client.wait_for(lambda: f"port {port} is taken" in rig.log, 20)
    assert client.wait_for(lambda: client.working_pid("admin") not in (0, victim), 30)

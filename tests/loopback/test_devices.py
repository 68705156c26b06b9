"""Real PortAudio streams through the virtual devices, judged from outside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.audio.devices import DeviceLost, list_devices, open_portaudio
from appliance.audio.player import PlaybackEventKind
from appliance.bench.recordings import recording
from appliance.capture.device import Capture, Microphone
from appliance.errors import ApplianceError
from appliance.loopback.acoustics import anechoic
from appliance.loopback.outside import MICROPHONE_SINK, Recorder, find_in, play_into_microphone
from appliance.loopback.room import VirtualRoom
from appliance.loopback.virtual_devices import (
    LOUDSPEAKER,
    LOUDSPEAKER_SINK,
    MICROPHONE,
    VirtualDevices,
)
from appliance.tts.playback import Loudspeaker, PlaybackReport

pytestmark = pytest.mark.loopback

RATE_HZ = 48_000
TRIES = 4
"""The room's player can starve on an overloaded machine; that it says so is what matters."""


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualDevices]:
    with VirtualDevices() as virtual:
        for name, value in virtual.environment.items():
            monkeypatch.setenv(name, value)
        yield virtual


def noise(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(int(seconds * rate_hz))).astype(np.float32)


def read_until(microphone: Microphone, done: Callable[[], bool]) -> list[Capture]:
    captures: list[Capture] = []
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        select.select([microphone], [], [], 0.2)
        captures += microphone.read()
    return captures


def reports_until(
    loudspeaker: Loudspeaker, kind: PlaybackEventKind, timeout_s: float = 20
) -> list[PlaybackReport]:
    reports: list[PlaybackReport] = []
    deadline = time.monotonic() + timeout_s
    while not any(report.kind is kind for report in reports):
        assert time.monotonic() < deadline, reports
        select.select([loudspeaker], [], [], 0.2)
        reports += loudspeaker.reports()
    return reports


def play_while_reading(
    devices: VirtualDevices, microphone: Microphone, samples: np.ndarray
) -> tuple[list[Capture], int]:
    """What the microphone captured, and when the samples really were at it."""
    heard = []
    player = threading.Thread(
        target=lambda: heard.append(play_into_microphone(devices.environment, samples, RATE_HZ))
    )
    player.start()
    captures = read_until(microphone, lambda: not player.is_alive())
    return captures, heard[0].start_ns


def test_microphone_is_bit_exact_and_knows_when(devices: VirtualDevices) -> None:
    wave = noise(0.8)
    microphone = Microphone(MICROPHONE)
    # A standing listener keeps the sound server's timing the same from start to end.
    with Recorder(devices.environment, MICROPHONE_SINK):
        microphone.start()
        captures, truth_ns = play_while_reading(devices, microphone, wave)
    microphone.close()
    stream = np.concatenate([capture.frames[:, 0] for capture in captures])
    frame, _ = find_in(stream, wave)
    np.testing.assert_array_equal(stream[frame : frame + len(wave)], wave)
    starts = np.cumsum([0, *(len(capture.frames) for capture in captures)])
    index = int(np.searchsorted(starts, frame, side="right")) - 1
    claimed_ns = captures[index].first_sample_ns + (frame - starts[index]) * 1e9 / RATE_HZ
    assert abs(claimed_ns - truth_ns) < 10e6
    steps_ns = np.diff([capture.first_sample_ns for capture in captures])
    assert np.median(np.abs(steps_ns - 10e6)) < 0.2e6
    assert microphone.statistics.dropped_blocks == 0


def test_four_channels_arrive_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualDevices(microphone_channels=4) as virtual:
        for name, value in virtual.environment.items():
            monkeypatch.setenv(name, value)
        wave = noise(0.5 * 4).reshape(-1, 4)
        microphone = Microphone(MICROPHONE, channels=4)
        microphone.start()
        player = subprocess.Popen(
            ["pacat", "--raw", "--device=microphone", "--format=float32le", "--rate=48000",
             "--channels=4", "--channel-map=front-left,front-right,rear-left,rear-right",
             "--latency-msec=40"], stdin=subprocess.PIPE,
        )  # fmt: skip
        feeder = threading.Thread(target=lambda: player.communicate(wave.tobytes()))
        feeder.start()
        captures = read_until(microphone, lambda: not feeder.is_alive())
        microphone.close()
        stream = np.concatenate([capture.frames for capture in captures])
        frame, _ = find_in(stream[:, 0], wave[:, 0])
        np.testing.assert_array_equal(stream[frame : frame + len(wave)], wave)


def test_loudspeaker_plays_all_and_knows_when(devices: VirtualDevices) -> None:
    speech = recording("hello-world").samples
    loudspeaker = Loudspeaker(LOUDSPEAKER)
    with Recorder(devices.environment) as recorder:
        loudspeaker.start()
        for start in range(0, len(speech), 3000):
            loudspeaker.enqueue("hello", speech[start : start + 3000], 16_000)
        loudspeaker.finish("hello")
        reports = reports_until(loudspeaker, PlaybackEventKind.DRAINED)
        played = np.concatenate([block.samples for block in loudspeaker.played()])
        drained_at_ns = time.monotonic_ns()
        recorder.wait_frames(recorder.frames + RATE_HZ // 5, 5)
    loudspeaker.close()
    started, drained = reports
    assert started.kind is PlaybackEventKind.STARTED
    assert loudspeaker.underflows == 0
    audible = np.flatnonzero(np.abs(played) > 0.001)
    whole = played[audible[0] : audible[-1] + 1]
    frame, correlation = find_in(recorder.samples(), whole)
    assert correlation > 0.99999
    assert abs(started.dac_ns - recorder.time_of(frame)) < 10e6
    assert drained.dac_ns <= drained_at_ns
    # The recording ends in quiet, so the last audible sample comes before the end.
    assert drained.dac_ns >= recorder.time_of(frame + len(whole)) - 10e6
    assert drained.played_ms == pytest.approx(len(speech) / 16, abs=1)


def test_flush_is_heard_at_once_and_counted(devices: VirtualDevices) -> None:
    loudspeaker = Loudspeaker(LOUDSPEAKER)
    with Recorder(devices.environment) as recorder:
        loudspeaker.start()
        loudspeaker.enqueue("long", noise(5.0), RATE_HZ)
        reports_until(loudspeaker, PlaybackEventKind.STARTED)
        time.sleep(0.3)
        asked_ns = time.monotonic_ns()
        played_ms = loudspeaker.flush("long")
        assert not loudspeaker.enqueue("long", noise(1.0), RATE_HZ)
        flushed = reports_until(loudspeaker, PlaybackEventKind.FLUSHED)[-1]
        recorder.wait_frames(recorder.frames + RATE_HZ // 5, 5)
        heard = np.flatnonzero(np.abs(recorder.samples()) > 1e-6)
    loudspeaker.close()
    assert flushed.played_ms == pytest.approx(played_ms)
    assert (heard[-1] - heard[0] + 1) / 48 == pytest.approx(played_ms, abs=1)
    assert (recorder.time_of(int(heard[-1])) - asked_ns) / 1e6 < 120


def test_ducking_lowers_what_is_heard(devices: VirtualDevices) -> None:
    loudspeaker = Loudspeaker(LOUDSPEAKER)
    with Recorder(devices.environment) as recorder:
        loudspeaker.start()
        loudspeaker.enqueue("a", np.full(RATE_HZ, 0.5, np.float32), RATE_HZ)
        loudspeaker.finish("a")
        reports_until(loudspeaker, PlaybackEventKind.STARTED)
        loudspeaker.ramp_gain(-20.0, ramp_ms=30)
        reports_until(loudspeaker, PlaybackEventKind.DRAINED)
        recorder.wait_frames(recorder.frames + RATE_HZ // 10, 5)
        heard = recorder.samples()
    loudspeaker.close()
    sounding = heard[np.flatnonzero(np.abs(heard) > 1e-6)]
    assert sounding.max() == pytest.approx(0.5)
    assert sounding[-RATE_HZ // 10] == pytest.approx(0.05, rel=1e-3)
    assert np.abs(np.diff(heard)).max() < 0.003


def test_nobody_reads(devices: VirtualDevices) -> None:
    microphone = Microphone(MICROPHONE, queue_ms=100)
    microphone.start()
    select.select([microphone], [], [], 5)
    time.sleep(0.4)
    captures = microphone.read()
    microphone.close()
    assert len(captures) == 10
    assert microphone.statistics.dropped_blocks >= 15


def test_devices_vanish_mid_sentence_and_come_back(devices: VirtualDevices) -> None:
    microphone, loudspeaker = Microphone(MICROPHONE), Loudspeaker(LOUDSPEAKER)
    microphone.start()
    loudspeaker.start()
    loudspeaker.enqueue("sentence", noise(3.0), RATE_HZ)
    loudspeaker.finish("sentence")
    reports_until(loudspeaker, PlaybackEventKind.STARTED)
    for sink in (MICROPHONE_SINK, LOUDSPEAKER_SINK):
        devices.unplug(sink)
    gone = time.monotonic()
    with pytest.raises(DeviceLost, match="stopped delivering"):
        read_until(microphone, lambda: False)
    with pytest.raises(DeviceLost, match="stopped delivering"):
        reports_until(loudspeaker, PlaybackEventKind.DRAINED)
    assert time.monotonic() - gone < 3.0
    with pytest.raises(DeviceLost, match="is not open"):
        microphone.read()
    assert not microphone.reopen_if_due()
    assert not microphone.reopen_if_due()  # too early, so not even tried
    for sink in (MICROPHONE_SINK, LOUDSPEAKER_SINK):
        devices.plug(sink)
    with Recorder(devices.environment) as recorder:
        deadline = time.monotonic() + 20
        while not (microphone.reopen_if_due() and loudspeaker.reopen_if_due()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        reports = reports_until(loudspeaker, PlaybackEventKind.DRAINED)
        assert np.abs(recorder.samples()).max() > 0.1
        count = microphone.statistics.blocks
        read_until(microphone, lambda: microphone.statistics.blocks >= count + 10)
    microphone.close()
    loudspeaker.close()
    assert reports[-1].played_ms == pytest.approx(3000, abs=1)


def test_a_missing_alsa_configuration_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALSA_CONFIG_PATH", "/nonexistent/asound.conf")
    with pytest.raises(ApplianceError, match="does not exist"):
        Microphone().prepare()


def test_no_such_device_lists_what_exists(devices: VirtualDevices) -> None:
    with pytest.raises(ApplianceError, match=f"'Jabra'.*{MICROPHONE}"):
        Microphone("Jabra").start()


def test_looking_for_devices_prints_nothing(devices: VirtualDevices) -> None:
    script = (
        "from appliance.audio.devices import *\n"
        "portaudio = open_portaudio()\n"
        "names = [device.name for device in list_devices(portaudio)]\n"
        f"assert {{'{MICROPHONE}', '{LOUDSPEAKER}'}} <= set(names), names\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_several_instances_see_the_devices(devices: VirtualDevices) -> None:
    portaudio = open_portaudio()
    names = {device.name for device in list_devices(portaudio)}
    portaudio.terminate()
    assert {MICROPHONE, LOUDSPEAKER} <= names


def test_room_carries_speech_and_times_the_answer(devices: VirtualDevices) -> None:
    question = recording("hello-world").samples
    loudspeaker = Loudspeaker(LOUDSPEAKER)
    loudspeaker.start()
    with VirtualRoom(devices.environment, anechoic(RATE_HZ, noise_dbfs=-70)) as room:
        for attempt in range(TRIES):
            room.say(question, 16_000, f"first {attempt}", delay_ms=300)
            first = room.wait_for("near_end", 20, name=f"first {attempt}")
            if first.intact:
                break
        room.say(question, 16_000, "second", after="answer_started", delay_ms=200)
        loudspeaker.enqueue("answer", noise(0.5), RATE_HZ)
        loudspeaker.finish("answer")
        reports = reports_until(loudspeaker, PlaybackEventKind.DRAINED)
        started = room.wait_for("answer_started", 10)
        second = room.wait_for("near_end", 20, name="second")
        ended = room.wait_for("answer_ended", 10)
    loudspeaker.close()
    assert first.intact
    assert (first.end_ns - first.at_ns) / 1e9 == pytest.approx(len(question) / 16_000, abs=0.001)
    assert first.at_ns < first.speech_start_ns < first.speech_end_ns <= first.end_ns + 10e6
    assert abs(started.at_ns - reports[0].dac_ns) < 15e6
    assert (ended.at_ns - started.at_ns) / 1e6 == pytest.approx(500, abs=2)
    assert (second.at_ns - started.at_ns) / 1e6 == pytest.approx(200, abs=30)


def test_room_feeds_the_echo_back(devices: VirtualDevices) -> None:
    wave = noise(0.5)
    loudspeaker = Loudspeaker(LOUDSPEAKER)
    loudspeaker.start()
    acoustics = anechoic(RATE_HZ, echo_db=-12)
    with (
        VirtualRoom(devices.environment, acoustics),
        Recorder(devices.environment, MICROPHONE_SINK) as recorder,
    ):
        middle = wave[1000:-1000]  # without the fades
        for attempt in range(TRIES):
            recorder.take()
            loudspeaker.enqueue(f"answer {attempt}", wave, RATE_HZ)
            loudspeaker.finish(f"answer {attempt}")
            reports_until(loudspeaker, PlaybackEventKind.DRAINED)
            recorder.wait_frames(recorder.frames + RATE_HZ // 3, 5)
            recorded = recorder.samples()
            frame, correlation = find_in(recorded, middle)
            heard = recorded[frame : frame + len(middle)]
            if correlation > 0.99999:
                break
    loudspeaker.close()
    assert correlation > 0.99999
    assert 20 * np.log10(heard.std() / middle.std()) == pytest.approx(-12, abs=0.1)


def left_behind(pulse_directory: Path) -> bool:
    return pulse_directory.exists() or bool(
        subprocess.run(
            ["pgrep", "-f", str(pulse_directory)], capture_output=True, check=False
        ).stdout
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_service_leaves_nothing_however_it_ends(ending: signal.Signals) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "appliance.loopback"], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    lines = [service.stdout.readline() for _ in range(5)]
    variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    directory = Path(variables["PULSE_RUNTIME_PATH"])
    assert directory.is_dir()
    sinks = subprocess.run(
        ["pactl", "list", "short", "sinks"],
        env={**os.environ, **variables}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "loudspeaker" in sinks
    service.send_signal(ending)
    service.wait(10)
    service.stdout.close()
    deadline = time.monotonic() + 5
    while left_behind(directory):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_impossible_channels_are_refused() -> None:
    with pytest.raises(ApplianceError, match="cannot have 3 channels"):
        VirtualDevices(microphone_channels=3)

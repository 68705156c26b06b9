"""The whole loop, from outside: a question into the microphone, an answer at the loudspeaker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
from hearing import ALIKE, alike, overlap, words

from appliance.asr.engine import create_engine
from appliance.asr.transcriber import Transcriber
from appliance.audio.files import read_speech, write_wav
from appliance.bench.recordings import recording
from appliance.bench.rig import Rig, private_appliance
from appliance.client import ApplianceClient
from appliance.loopback.outside import LOUDSPEAKER_SINK, Recorder, play_into_microphone
from appliance.models.store import ensure_model
from appliance.processes import PROCESSES

pytestmark = [pytest.mark.loopback, pytest.mark.models]

QUESTION = Path(__file__).parents[2] / "appliance" / "loopback" / "question.wav"
ASKED = "What is the capital of Italy?"


def cli(rig: Rig, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        env=rig.environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A running appliance on virtual devices, with the small language model."""
    settings = {
        "APPLIANCE_LLM__MODEL": "qwen2.5-coder-0.5b",
        "APPLIANCE_LLM__SYSTEM_PROMPT": "Answer in one whole sentence.",  # a lone word is misheard
    }
    with private_appliance(settings) as running:
        yield running


@pytest.fixture(scope="module")
def ears() -> Transcriber:
    """A recogniser of the test's own, to prove that what was played can be understood."""
    return Transcriber(create_engine("ctranslate2", ensure_model("whisper-tiny.en"), threads=1))


def understood(ears: Transcriber, samples: np.ndarray, rate_hz: int) -> str:
    resampled = soxr.resample(samples, rate_hz, 16_000).astype(np.float32)
    return ears.transcribe(resampled).text


def test_a_question_at_the_microphone_is_answered_at_the_loudspeaker(
    rig: Rig, ears: Transcriber
) -> None:
    question, _ = read_speech(QUESTION)
    with (
        ApplianceClient(rig.config) as client,
        Recorder(rig.devices.environment, LOUDSPEAKER_SINK) as loudspeaker,
    ):
        assert client.wait_ready(20)
        heard = play_into_microphone(rig.devices.environment, question, 16_000)
        record = client.next_turn(60)
        assert record is not None
        loudspeaker.wait_frames(loudspeaker.frames + 24_000, 5)
        played = loudspeaker.samples()
        first_ns = loudspeaker.time_of(int(np.argmax(np.abs(played) > 0.01)))
    assert overlap(ASKED, record.transcript) > 0.8, record.transcript
    assert "rome" in words(record.reply)
    assert alike(record.reply, understood(ears, played, 48_000)) >= ALIKE
    # the ledger says what the loudspeaker says, measured from outside
    assert sum(record.contributions_ms.values()) == pytest.approx(record.voice_to_voice_ms)
    assert record.audible_ns / 1e6 == pytest.approx(first_ns / 1e6, abs=30)
    assert record.speech_end_ns / 1e6 == pytest.approx(heard.end_ns / 1e6, abs=400), (
        "the recording ends with some silence; the speech within it ends earlier"
    )


def test_ask_a_recording_from_the_command_line(rig: Rig, ears: Transcriber, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    result = cli(rig, "ask", str(QUESTION), "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert overlap(ASKED, answer["transcript"]) > 0.8, answer
    latency = answer["latency_ms"]
    parts = sum(ms for name, ms in latency.items() if name != "voice_to_voice")
    assert parts == pytest.approx(latency["voice_to_voice"], abs=1)
    assert answer["turn_id"]
    reply, _ = read_speech(answer["reply_wav"])
    assert alike(answer["reply"], understood(ears, reply, 16_000)) >= ALIKE


def test_recorded_human_speech_is_heard(rig: Rig) -> None:
    said = recording("goforward")
    with ApplianceClient(rig.config) as client:
        client.wait_ready(20)
        answer = client.ask_samples(iter([said.samples]), said.name)
    assert overlap(said.text, answer.record.transcript) >= 0.7
    assert answer.record.reply


def test_ask_a_text(rig: Rig) -> None:
    result = cli(rig, "ask", "Say hello.", "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["reply"]
    assert answer["transcript"] == "Say hello."


def test_say_is_heard_word_for_word(rig: Rig, ears: Transcriber) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    with ApplianceClient(rig.config) as client:
        client.wait_ready(20)
        answer = client.say(text)
    assert overlap(text, understood(ears, answer.audio, 16_000)) >= 0.75


def test_status_shows_every_process(rig: Rig) -> None:
    result = cli(rig, "status", "--json")
    assert result.returncode == 0, result.stderr
    state = json.loads(result.stdout)
    assert state["ready"] is True
    assert {name.split(".")[0] for name in state["processes"]} == set(PROCESSES)


def test_health_page_agrees(rig: Rig) -> None:
    import httpx

    answer = httpx.get(f"http://127.0.0.1:{rig.config.admin.port}/health", timeout=10)
    assert answer.status_code == 200
    health = answer.json()
    assert health["ready"]
    assert all(entry["pss_mb"] > 0 for entry in health["processes"].values())


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.wav", b"", "empty"),
        ("text.wav", b"this is no sound at all" * 10, "not"),
        ("header.wav", b"RIFF\x24\0\0\0WAVEfmt ", ""),
    ],
)
def test_bad_recordings_get_one_clear_line(
    rig: Rig, tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    result = cli(rig, "ask", str(path))
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert name in result.stderr
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_silence_is_not_a_question(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    write_wav(path, np.zeros(32_000, np.float32))
    result = cli(rig, "ask", str(path))
    assert result.returncode != 0
    assert "speech" in result.stderr.splitlines()[-1]


def test_missing_file_and_folder(rig: Rig, tmp_path: Path) -> None:
    assert "no file" in cli(rig, "ask", str(tmp_path / "nothing.wav")).stderr
    result = cli(rig, "ask", str(QUESTION), "--out", str(tmp_path / "no" / "reply.wav"))
    assert "no folder" in result.stderr
    assert result.returncode != 0


def test_a_second_start_is_refused_and_names_the_first(rig: Rig) -> None:
    result = cli(rig, "run", timeout_s=30)
    assert result.returncode != 0
    assert f"already running as process {rig.process.pid}" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# --- kills: last in this file, since they leave restarts in the status ---------------------------

BACK_WITHIN_S = {
    **dict.fromkeys(("capture", "vad", "tts", "conductor"), 1),
    **dict.fromkeys(("asr", "llm", "mind", "gateway", "admin"), 4),
}
SLOW_MACHINE = 3.0
"""A noisy machine may take this many times as long; the real figures are the bench's."""


@pytest.mark.parametrize("process", list(PROCESSES))
def test_a_killed_process_comes_back_alone_and_the_loop_works_again(rig: Rig, process: str) -> None:
    with ApplianceClient(rig.config) as client:
        assert client.wait_ready(30)
        before = client.status()["processes"]
        victim = client.working_pid(process)
        assert victim > 0, "0 is this very process group"
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()

        def replaced() -> bool:
            now = client.status(0)["processes"]
            return any(
                name.split(".")[0] == process
                and entry["state"] == "ready"
                and entry["pid"] != victim
                for name, entry in now.items()
            )

        bound_s = BACK_WITHIN_S[process] * SLOW_MACHINE
        assert client.wait_for(replaced, bound_s), f"{process} not back in {bound_s} s"
        back_after_s = time.monotonic() - killed_at
        after = client.status()["processes"]
        others = [name for name in before if name.split(".")[0] != process]
        assert {n: before[n]["pid"] for n in others} == {n: after[n]["pid"] for n in others}
        assert client.wait_ready(30)
        answer = client.say("Still here.")
        assert answer.record.outcome == "answered", (process, back_after_s)


@pytest.mark.parametrize("process", ["asr", "mind", "llm", "tts", "conductor", "vad", "capture"])
def test_a_kill_in_the_middle_of_a_turn_never_ends_in_silence(rig: Rig, process: str) -> None:
    question, _ = read_speech(QUESTION)
    moment = {"capture": "listening", "vad": "listening", "tts": "speaking"}
    with (
        ApplianceClient(rig.config) as client,
        Recorder(rig.devices.environment, LOUDSPEAKER_SINK) as loudspeaker,
    ):
        assert client.wait_ready(30)
        assert client.wait_for(lambda: client.floor == "idle", 30)
        victim = client.working_pid(process)
        player = _Player(rig, question)
        assert client.wait_for(lambda: client.floor == moment.get(process, "thinking"), 30)
        assert victim > 0, "0 is this very process group"
        os.kill(victim, signal.SIGKILL)
        killed_frame = loudspeaker.frames
        player.join()
        assert client.next_turn(60) is not None, "the turn never ended"
        loudspeaker.wait_frames(loudspeaker.frames + 24_000, 5)
        heard = loudspeaker.samples()[killed_frame:]
        assert np.abs(heard).max() > 0.05, "the user heard nothing"
        assert client.wait_ready(30)


class _Player:
    def __init__(self, rig: Rig, samples: np.ndarray) -> None:
        import threading

        self._thread = threading.Thread(
            target=play_into_microphone, args=(rig.devices.environment, samples, 16_000)
        )
        self._thread.start()

    def join(self) -> None:
        self._thread.join()


def test_at_the_end_nothing_is_left(rig: Rig) -> None:
    assert rig.process.poll() is None
    started = time.monotonic()
    assert rig.stop() == 0
    assert time.monotonic() - started < 2 * SLOW_MACHINE
    left = [p.name for p in Path("/dev/shm").iterdir() if p.name.startswith(rig.config.shm_prefix)]
    assert left == []
    runtime = Path(rig.environment["APPLIANCE_RUNTIME_DIR"])
    assert [p.name for p in runtime.iterdir() if p.suffix in (".pub", ".req")] == []
    mine = f"APPLIANCE_RUNTIME_DIR={runtime}".encode()
    orphans = [
        p.parent.name
        for p in Path("/proc").glob("[0-9]*/environ")
        if _contains(p, mine) and int(p.parent.name) != os.getpid()
    ]
    assert orphans == []


def _contains(path: Path, text: bytes) -> bool:
    try:
        return text in path.read_bytes()
    except OSError:
        return False

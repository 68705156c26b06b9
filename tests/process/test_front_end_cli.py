"""`appliance front-end` as people run it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.__main__ import main
from appliance.audio.files import read_speech
from appliance.capture.chain import STAGES
from appliance.run import QUESTION

SECONDS = 6


def front_end(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "appliance", "front-end", *map(str, arguments)],
        env={**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def front_end_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """In this process, which saves the start; gives the exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["appliance", "front-end", *map(str, arguments)])
        try:
            main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    return run


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.square(samples, dtype=float).mean() + 1e-12))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a 2-channel mic.wav: echo alone for 4 s, then with it somebody who asks."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(4)
    question, _ = read_speech(QUESTION)
    length = SECONDS * 16_000
    # in syllables, as speech, for the delay to be seen
    far = 0.1 * rng.standard_normal(length) * (0.6 + 0.4 * np.sin(np.arange(length) * 1.3e-3))
    path = np.concatenate([np.zeros(320), rng.standard_normal(1600)])
    path *= 0.15 * np.exp(-np.arange(len(path)) / 300)
    near = np.zeros(length)
    near[4 * 16_000 :] = np.resize(question, 2 * 16_000) * 0.05 / np.std(question)
    echo = np.convolve(far, path)[:length]
    mic = np.stack([echo + near, np.roll(echo, 1) + near], axis=1)
    mic += 3e-4 * rng.standard_normal(mic.shape)
    soundfile.write(folder / "mic.wav", mic, 16_000, subtype="PCM_24")
    soundfile.write(folder / "far.wav", far, 16_000)
    soundfile.write(folder / "near.wav", near, 16_000)
    return folder


def test_removes_the_echo_keeps_the_voice_and_tells_how(scene: Path, tmp_path: Path) -> None:
    out, metrics, state = tmp_path / "near.wav", tmp_path / "m.json", tmp_path / "room.npz"
    arguments = ("--mic", scene / "mic.wav", "--reference", scene / "far.wav", "--out", out)
    result = front_end(*arguments, "--metrics", metrics, "--state", state)
    assert result.returncode == 0, result.stderr
    assert "aligned" in result.stderr
    assert "latency" in result.stderr
    mic, _ = soundfile.read(scene / "mic.wav")
    cleaned, rate_hz = soundfile.read(out)
    assert (rate_hz, len(cleaned)) == (16_000, SECONDS * 16_000)
    echo_alone = slice(3 * 16_000, 4 * 16_000)
    assert level_db(mic[echo_alone, 0]) - level_db(cleaned[echo_alone]) > 20
    talking = slice(4 * 16_000, None)
    near = soundfile.read(scene / "near.wav")[0][talking]
    lags = np.correlate(cleaned[talking], near[200:-200], "valid")
    assert abs(int(np.argmax(lags)) - 200) <= 4  # 0.25 ms
    figures = json.loads(metrics.read_text())
    assert [row["at_s"] for row in figures["rows"]][:SECONDS] == [1, 2, 3, 4, 5, 6]
    assert figures["summary"]["real_time_factor"] < 1
    assert figures["latency_ms"] > 0
    # warm: what the first run has learnt is there from the first syllable
    result = front_end(*arguments, "--state", state)
    assert result.returncode == 0, result.stderr
    warm, _ = soundfile.read(out)
    first = slice(0, 4_000)
    assert level_db(warm[first]) < level_db(cleaned[first]) - 6


def test_every_stage_bypassed_is_the_microphone(
    scene: Path, tmp_path: Path, front_end_here: Callable[..., int]
) -> None:
    bypass = [argument for stage in STAGES for argument in ("--bypass", stage)]
    assert front_end_here("--mic", scene / "mic.wav", "--out", tmp_path / "out.wav", *bypass) == 0
    mic = soundfile.read(scene / "mic.wav")[0][:, 0]
    out, _ = soundfile.read(tmp_path / "out.wav")
    assert len(out) == len(mic)
    lags = np.correlate(out, mic[200:-200], "valid")
    assert abs(int(np.argmax(lags)) - 200) <= 2


@pytest.mark.parametrize(
    ("rate_hz", "channels", "subtype"),
    [(8_000, 1, "PCM_U8"), (96_000, 2, "FLOAT"), (44_100, 3, "PCM_24")],
)
def test_odd_files(
    tmp_path: Path,
    front_end_here: Callable[..., int],
    rate_hz: int,
    channels: int,
    subtype: str,
) -> None:
    rng = np.random.default_rng(1)
    mic = 0.1 * rng.standard_normal((rate_hz // 2 + 1, channels))
    if subtype == "FLOAT":
        mic[rate_hz // 4, 0], mic[rate_hz // 4 + 1, 1] = np.nan, np.inf
    soundfile.write(tmp_path / "mic.wav", mic, rate_hz, subtype=subtype)
    assert front_end_here("--mic", tmp_path / "mic.wav", "--out", tmp_path / "out.wav") == 0
    out, out_rate_hz = soundfile.read(tmp_path / "out.wav")
    assert out_rate_hz == 16_000
    assert len(out) == round(len(mic) * 16_000 / rate_hz)
    assert np.isfinite(out).all()


def test_one_sample(tmp_path: Path, front_end_here: Callable[..., int]) -> None:
    soundfile.write(tmp_path / "mic.wav", [0.5], 16_000)
    assert front_end_here("--mic", tmp_path / "mic.wav", "--out", tmp_path / "out.wav") == 0
    assert soundfile.info(tmp_path / "out.wav").frames == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mic", "nowhere.wav", "--out", "out.wav"], "no file"),
        (["--mic", "mic.wav", "--out", "mic.wav"], "named twice"),
        (["--mic", "mic.wav", "--out", "out.wav", "--bypass", "magic"], "no stage magic"),
        (["--mic", "mic.wav", "--out", "out.wav", "--channel-map", "0,x"], "channel-map"),
        (["--mic", "mic.wav", "--out", "out.wav", "--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_errors_are_one_line(
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    front_end_here: Callable[..., int],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(scene)
    assert front_end_here(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (scene / "out.wav").exists()

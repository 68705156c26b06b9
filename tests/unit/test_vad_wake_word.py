"""The wake word: one call is told once, echoes do not call, names are checked."""

from __future__ import annotations

import builtins
import shutil

import numpy as np
import pytest

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, Samples
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import Block
from appliance.loopback.acoustics import speech_bounds
from appliance.messages import WakeWord
from appliance.vad.wake_word import MicroWakeWordModel, WakeWordListener

MS = 1_000_000


class LevelIsProbability:
    """A model for tests: what it hears is how sure it is."""

    name = "okay_test"
    threshold = 0.9
    window_ms = 150

    def take(self, samples: Samples) -> float:
        return float(samples[0])


def listen(levels: list[float], *, near_end: float = 1.0, threshold: float = 0.0) -> list[WakeWord]:
    listener = WakeWordListener("local", LevelIsProbability(), threshold)
    return [
        call
        for number, level in enumerate(levels)
        if (
            call := listener.take(
                Block(
                    1,
                    number,
                    number * BLOCK_NS,
                    0,
                    np.full(BLOCK_SAMPLES, level, np.float32),
                    near_end=near_end,
                )
            )
        )
    ]


def test_a_call_is_told_once_with_its_end() -> None:
    (call,) = listen([0.0] * 100 + [0.95] * 50 + [0.0] * 100)
    assert call.name == "okay_test"
    assert call.end_ns == (100 * 10 + 10 - 150) * MS
    assert call.probability == pytest.approx(0.95)


def test_a_second_call_is_told_too() -> None:
    assert len(listen(([0.95] * 20 + [0.0] * 100) * 2)) == 2


@pytest.mark.parametrize(("threshold", "calls"), [(0.0, 0), (0.7, 1), (0.95, 0)])
def test_the_threshold_can_be_set(threshold: float, calls: int) -> None:
    assert len(listen([0.0] * 20 + [0.8] * 20, threshold=threshold)) == calls


def test_what_is_left_of_its_own_voice_does_not_call() -> None:
    assert listen([0.0] * 100 + [1.0] * 20, near_end=0.2) == []


def test_an_unknown_name_gets_the_known_ones() -> None:
    pytest.importorskip("pymicro_wakeword")
    with pytest.raises(ApplianceError, match=r"no wake word .hal.*okay_nabu, hey_jarvis"):
        MicroWakeWordModel("hal")


def test_without_the_package_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name == "pymicro_wakeword":
            raise ImportError("No module named 'pymicro_wakeword'")
        return whole(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ApplianceError, match="install it, or set"):
        MicroWakeWordModel("okay_nabu")


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs a voice")
@pytest.mark.parametrize(
    ("word", "voice", "text", "calls"),
    [
        ("okay_nabu", "rms", "Okay Nabu.", 1),
        ("okay_nabu", "awb", "Okay Nabu, what is the time?", 1),
        ("hey_jarvis", "rms", "Hey Jarvis.", 1),
        ("okay_nabu", "rms", "Okay, now I do it. What is the time?", 0),
        ("hey_jarvis", "rms", "Hey, charge this. What is the time?", 0),
    ],
)
def test_spoken_calls(word: str, voice: str, text: str, calls: int) -> None:
    pytest.importorskip("pymicro_wakeword")
    from appliance.bench.recordings import synthesised

    second = np.zeros(16_000, np.float32)
    speech = synthesised(text, voice).samples
    sound = np.concatenate([second, 0.1 * speech / np.abs(speech).max(), second])
    listener = WakeWordListener("local", MicroWakeWordModel(word))
    heard = [
        call
        for n in range(len(sound) // BLOCK_SAMPLES)
        if (
            call := listener.take(
                Block(1, n, n * BLOCK_NS, 0, sound[n * BLOCK_SAMPLES : (n + 1) * BLOCK_SAMPLES])
            )
        )
    ]
    assert len(heard) == calls
    if calls and text.count(" ") == 1:
        word_end_ns = (len(second) + speech_bounds(speech, 16_000)[1]) / 16 * 1_000_000
        assert abs(heard[0].end_ns - word_end_ns) < 250 * MS

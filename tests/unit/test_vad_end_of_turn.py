"""smart-turn: its input, and what it says of speech."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ApplianceError
from appliance.vad.end_of_turn import MODEL_FILE, SmartTurn, features

MODEL_DIR = Path(__file__).parents[2] / "models" / "smart-turn"
RATE = 16_000


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 3.0, 8.0, 30.0])
def test_the_input_has_one_shape_whatever_the_length(seconds: float) -> None:
    made = features(tone(seconds))
    assert made.shape == (1, 80, 800)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


def test_the_sound_stands_at_the_end_after_nothing() -> None:
    made = features(tone(3.0))[0]
    loudest = made.max(axis=0)
    assert loudest[:490].max() < loudest[510:].min()


def test_the_last_8_s_count_and_the_level_does_not() -> None:
    sound = np.asarray(tone(10.0) * np.linspace(0.1, 1, 10 * RATE), np.float32)
    assert np.allclose(features(sound), features(sound[-8 * RATE :]), atol=1e-6)
    assert np.allclose(features(sound), features(0.01 * sound), atol=1e-2)


def test_missing_model_names_the_repair(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match=r"models fetch smart-turn.*end_of_turn = .off."):
        SmartTurn(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a network"])
def test_corrupt_model_names_the_repair(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / MODEL_FILE).write_bytes(damage)
    with pytest.raises(ApplianceError, match=r"cannot be used .*models fetch smart-turn"):
        SmartTurn(tmp_path)


@pytest.mark.models
def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).symlink_to(MODEL_DIR.parent / "silero-vad" / "silero_vad.onnx")
    with pytest.raises(ApplianceError, match="cannot be used"):
        SmartTurn(tmp_path)


@pytest.mark.models
@pytest.mark.skipif(shutil.which("flite") is None, reason="needs a voice")
def test_an_um_does_not_sound_finished() -> None:
    from appliance.bench.dialogues import levelled
    from appliance.bench.recordings import synthesised

    model = SmartTurn(MODEL_DIR)
    room = np.random.default_rng(1).standard_normal(5 * RATE).astype(np.float32) * 1e-4

    def probability(text: str, voice: str) -> float:
        speech = levelled(synthesised(text, voice).samples)
        heard = np.concatenate([speech, np.zeros(3 * RATE // 10, np.float32)])
        return model.probability(heard + room[: len(heard)])

    for voice in ("slt", "rms", "awb"):
        finished = probability("Turn the light off, please.", voice)
        assert finished > 0.5 > probability("I would like, um,", voice)

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from appliance.tts.engine import TtsError, create_tts_engine
from appliance.tts.loudness import loudness_lufs
from appliance.tts.piper import PiperEngine

NAME = "piper-en_US-joe-medium"
VOICE = Path(__file__).parents[2] / "models" / NAME / "en_US-joe-medium.onnx"

ENGINES = [
    pytest.param("piper", marks=pytest.mark.models),
    pytest.param(
        "espeak",
        marks=pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng not installed"),
    ),
]


def never():
    return False


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    engine = create_tts_engine(request.param, model_path=VOICE, model_name=NAME)
    yield engine
    engine.close()


def test_speech_is_loud_enough_and_as_long_as_the_words(engine):
    short = np.concatenate(list(engine.synthesise("Italy's capital is Rome.", cancelled=never)))
    long = np.concatenate(
        list(
            engine.synthesise(
                "Italy's capital is Rome, which is old, large, and warm.", cancelled=never
            )
        )
    )
    assert short.dtype == np.float32
    assert short.ndim == 1
    assert np.abs(short).max() <= 1
    assert -35 < loudness_lufs(short, engine.rate_hz) < -12
    assert 0.8 < short.size / engine.rate_hz < 2.5
    assert long.size > 1.5 * short.size


@pytest.mark.parametrize("text", ["", "   ", "...", "—"])
def test_nothing_speakable_yields_nothing(engine, text):
    assert list(engine.synthesise(text, cancelled=never)) == []


@pytest.mark.parametrize("text", ["你好", "[[ a ]] b", "\x00 hm", "ß µ ½ 3.5 %", "a" * 400])
def test_odd_text_does_no_harm(engine, text):
    for audio in engine.synthesise(text, cancelled=never):
        assert np.isfinite(audio).all()


def test_once_cancelled_nothing_is_yielded(engine):
    assert list(engine.synthesise("Hello there. How are you?", cancelled=lambda: True)) == []


@pytest.mark.models
def test_piper_stops_between_sentences():
    engine = PiperEngine(VOICE, NAME)
    stopped = False
    sentences = engine.synthesise("One. Two. Three.", cancelled=lambda: stopped)
    next(sentences)
    stopped = True
    assert list(sentences) == []


def test_a_missing_voice_says_how_to_fetch_it(tmp_path):
    with pytest.raises(TtsError, match=r"no\.onnx is missing.*appliance models fetch joe"):
        PiperEngine(tmp_path / "no.onnx", "joe")


CONFIG = {
    "num_symbols": 1,
    "num_speakers": 1,
    "audio": {"sample_rate": 16000},
    "espeak": {"voice": "en-us"},
    "phoneme_id_map": {},
}


@pytest.mark.parametrize(
    ("voice", "config", "named"),
    [
        (b"not onnx", json.dumps(CONFIG), r"bad\.onnx"),
        (b"", json.dumps(CONFIG), r"bad\.onnx"),
        (b"", "{", r"bad\.onnx\.json"),
        (b"", "{}", r"bad\.onnx\.json"),
        (b"", "[]", r"bad\.onnx\.json"),
    ],
)
def test_a_damaged_voice_says_how_to_repair_it(tmp_path, voice, config, named):
    path = tmp_path / "bad.onnx"
    path.write_bytes(voice)
    path.with_name("bad.onnx.json").write_text(config)
    with pytest.raises(TtsError, match=named + r" is damaged.*appliance models fetch joe"):
        PiperEngine(path, "joe")


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng not installed")
def test_an_unknown_espeak_voice_is_refused():
    with pytest.raises(TtsError, match=r"voice.*\[tts\] voice"):
        create_tts_engine("espeak", voice="nope")


def test_espeak_that_is_not_installed_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TtsError, match="apt install espeak-ng"):
        create_tts_engine("espeak")


def test_piper_without_a_model_is_refused():
    with pytest.raises(TtsError, match=r"\[tts\] model"):
        create_tts_engine("piper")

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from appliance.tts import vits
from appliance.tts.engine import TtsError, create_tts_engine
from appliance.tts.loudness import loudness_lufs
from appliance.tts.piper import PiperEngine, _divided

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


def speak(engine, text):
    return list(engine.synthesise(text, cancelled=never))


def test_speech_is_loud_enough_and_as_long_as_the_words(engine):
    short, long = (
        np.concatenate([stretch.samples for stretch in speak(engine, text)])
        for text in (
            "Italy's capital is Rome.",
            "Italy's capital is Rome, which is old, large, and warm.",
        )
    )
    assert short.dtype == np.float32
    assert short.ndim == 1
    assert np.abs(short).max() <= 1
    assert -35 < loudness_lufs(short, engine.rate_hz) < -12
    assert 0.8 < short.size / engine.rate_hz < 2.5
    assert long.size > 1.5 * short.size


@pytest.mark.parametrize(
    "text",
    ["Rome.", "It was 1969, at 3:15 pm. Twenty of the men left; two did not.", "A - b / c & 7 %"],
)
def test_every_word_has_its_end_within_its_sentence(engine, text):
    said, size, ends = 0, 0, []
    for stretch in speak(engine, text):
        size += stretch.samples.size
        ends += stretch.word_ends
        if stretch.ends_sentence:
            assert ends == sorted(ends)
            assert 0 <= ends[0] <= ends[-1] <= size
            said += len(ends)
            size, ends = 0, []
    assert said == len(text.split())


def test_a_longer_word_takes_longer(engine):
    ends = []
    for stretch in speak(engine, "A constitutional one"):
        ends += stretch.word_ends
    a, constitutional, one = np.diff([0, *ends]) / engine.rate_hz
    assert constitutional > 2 * max(a, one)


@pytest.mark.parametrize("text", ["", "   ", "...", "—"])
def test_nothing_speakable_yields_nothing(engine, text):
    assert speak(engine, text) == []


@pytest.mark.parametrize("text", ["你好", "[[ a ]] b", "\x00 hm", "ß µ ½ 3.5 %", "a" * 400])
def test_odd_text_does_no_harm(engine, text):
    for stretch in speak(engine, text):
        assert np.isfinite(stretch.samples).all()


def test_once_cancelled_nothing_is_yielded(engine):
    assert list(engine.synthesise("Hello there. How are you?", cancelled=lambda: True)) == []


@pytest.fixture(scope="module")
def piper():
    return PiperEngine(VOICE, NAME)


@pytest.mark.models
def test_piper_stops_between_stretches(piper):
    stopped = False
    stretches = piper.synthesise("One, two, three, four.", cancelled=lambda: stopped)
    assert not next(stretches).ends_sentence
    stopped = True
    assert list(stretches) == []


@pytest.mark.models
def test_piper_is_interrupted_within_a_stretch_and_speaks_again(piper):
    text = " ".join(["constitutional"] * 30)
    done = []
    thread = threading.Thread(target=lambda: done.append(speak(piper, text)))
    thread.start()
    while not done:  # at whatever moment it is told
        piper.interrupt()
        thread.join(0.001)
    assert done == [[]]
    assert speak(piper, "Yes.")[-1].ends_sentence


@pytest.mark.models
def test_an_interruption_hits_only_what_runs(piper):
    waiting = piper.synthesise("One, two, three, four.", cancelled=never)
    next(waiting)
    piper.interrupt()
    assert list(waiting)[-1].ends_sentence


@pytest.mark.models
def test_stretches_are_the_whole_sentence_and_the_first_is_short(piper, monkeypatch):
    text = "The quick brown fox jumped over the lazy dog, and went home."
    stretches = speak(piper, text)
    assert 0.2 < stretches[0].samples.size / piper.rate_hz < 0.4
    assert [stretch.ends_sentence for stretch in stretches][:-1] == [False] * (len(stretches) - 1)
    assert sum(bool(stretch.word_ends) for stretch in stretches) == 1
    inputs = piper._inputs(piper._phonemes(text)[0]) | {
        "scales": np.array([0, 1, 0], np.float32)
    }  # no chance
    in_parts = [s.samples for s in piper._model.render(inputs, ort.RunOptions())]
    monkeypatch.setattr(vits, "_STRETCHES", (10_000,))
    (whole,) = (s.samples for s in piper._model.render(inputs, ort.RunOptions()))
    assert len(in_parts) > 2
    np.testing.assert_allclose(np.concatenate(in_parts), whole, atol=1e-5)


@pytest.mark.models
def test_a_model_that_cannot_be_cut_speaks_whole_sentences(monkeypatch):
    monkeypatch.setattr(vits.OnnxGraph, "input_of", lambda *_: None)
    engine = PiperEngine(VOICE, NAME)
    first, second = speak(engine, "Hello there. How are you?")
    assert first.ends_sentence
    assert (len(first.word_ends), len(second.word_ends)) == (2, 3)


@pytest.mark.parametrize("word", [3, 60, 450])
def test_a_sentence_of_too_many_phonemes_is_divided_between_words(word):
    phonemes = list(("a" * word + " ") * (1000 // word))
    parts = list(_divided(phonemes))
    assert [phoneme for part in parts for phoneme in part] == phonemes
    assert all(0 < len(part) <= 200 for part in parts)
    if word < 200:
        assert all(part[0] == " " for part in parts[1:])


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

"""Real engines on real speech."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from appliance.asr.engine import (
    AligningEngine,
    AsrEngine,
    TranscriptionCancelledError,
    create_engine,
)
from appliance.asr.evaluation import normalise, word_error_percent
from appliance.asr.features import mel_filters
from appliance.asr.streaming import LiveUtterance
from appliance.asr.tokens import Vocabulary
from appliance.asr.transcriber import Transcriber
from appliance.asr.words import text_of
from appliance.bench.recordings import cards, librivox
from appliance.errors import ApplianceError
from appliance.loopback.acoustics import speech_bounds

MODEL_DIR = Path(__file__).parents[2] / "models" / "whisper-tiny.en"
FILE_OF = {"ctranslate2": "model.bin", "whisper.cpp": "ggml-tiny.en.bin"}
RATE = 16_000

pytestmark = pytest.mark.models


@pytest.fixture(scope="module", params=list(FILE_OF))
def engine(request) -> AsrEngine:
    return create_engine(request.param, MODEL_DIR)


@pytest.fixture(scope="module")
def default_engine() -> AsrEngine:
    return create_engine("ctranslate2", MODEL_DIR)


def mistakes(heard: str, said: str) -> int:
    """Words of one that the other lacks: enough for a smoke test."""
    return len(set(normalise(heard).split()) ^ set(normalise(said).split()))


def test_sentences_are_understood(engine):
    transcriber = Transcriber(engine)
    for recording in librivox()[3:]:
        utterance = transcriber.transcribe(recording.samples)
        assert mistakes(utterance.text, recording.text) <= 2
        assert utterance.avg_logprob > -0.5


def test_every_token_is_told(engine):
    heard = engine.transcribe(librivox()[4].samples)
    assert "".join(token.text for token in heard.tokens).strip() == heard.text
    assert heard.complete


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.03])
def test_noise_yields_no_words(engine, level):
    noise = np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32) * level
    assert Transcriber(engine).transcribe(noise).text == ""


@pytest.mark.parametrize("samples", [1, 160, 1600])
def test_tiny_audio_is_no_error(engine, samples):
    assert engine.transcribe(np.zeros(samples, np.float32), context="cut").text is not None


@pytest.mark.slow
def test_forty_seconds_lose_no_sentence(default_engine):
    transcriber = Transcriber(default_engine)
    pause = np.zeros(RATE, np.float32)
    audio = np.concatenate([np.concatenate([librivox()[4].samples, pause]) for _ in range(9)])
    text = normalise(transcriber.transcribe(audio).text)
    assert text.count("amiable himself") == 9


def test_words_are_the_text_in_order_within_the_audio(engine):
    recording = librivox()[3]
    heard = engine.transcribe(recording.samples, context="cut", words=True)
    assert text_of(heard.words) == heard.text
    assert all(0.0 < word.probability <= 1.0 for word in heard.words)
    times = [time for word in heard.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[-1] <= recording.seconds


def test_word_times_are_where_the_words_are(default_engine):
    """The same sentence after two seconds of silence has its words two seconds later."""
    samples = librivox()[4].samples
    shifted = np.concatenate((np.zeros(2 * RATE, np.float32), samples))
    first = default_engine.transcribe(samples, context="cut", words=True).words
    later = default_engine.transcribe(shifted, context="cut", words=True).words
    assert text_of(first) == text_of(later)
    for before, after in list(zip(first, later, strict=True))[1:]:
        assert after.start_s - before.start_s == pytest.approx(2.0, abs=0.15)


def test_what_was_said_scores_above_what_was_not(default_engine):
    assert isinstance(default_engine, AligningEngine)
    said, other = default_engine.score(
        librivox()[4].samples,
        ["He might even have been made amiable himself.", "He might even have been made a table."],
        context="cut",
        prompt="Amiable.",
    )
    assert said > other + 5.0


@pytest.mark.parametrize("preroll_ms", [100, 300])
def test_no_first_word_is_lost_after_a_short_preroll(default_engine, preroll_ms):
    """Speech begins right after the pre-roll: vad gives no more."""
    transcriber = Transcriber(default_engine)
    noise = np.random.default_rng(0)
    for recording in [*librivox()[1:], *cards()]:
        first, last = speech_bounds(recording.samples, RATE)
        silence = np.zeros(preroll_ms * RATE // 1000, np.float32)
        audio = np.concatenate((silence, recording.samples[first:last], silence[:1600]))
        audio += noise.normal(scale=1e-4, size=len(audio)).astype(np.float32)
        said, heard = (
            normalise(t).split() for t in (recording.text, transcriber.transcribe(audio).text)
        )
        assert heard[0] == said[0], recording.name


@pytest.mark.slow
def test_words_come_while_speech_goes_on_and_none_is_lost(default_engine):
    """Half a minute without a pause that would end an utterance."""
    transcriber = Transcriber(default_engine)
    pause = np.zeros(RATE // 3, np.float32)
    audio = np.concatenate([part for r in librivox() for part in (r.samples, pause)])
    live, stable = LiveUtterance(transcriber), ""
    for end in range(RATE, len(audio), RATE):
        stable = live.partial(audio[:end]).stable
    final = live.final(audio).text
    said = normalise(" ".join(recording.text for recording in librivox()))
    assert word_error_percent([said], [normalise(final)]) < 12.0
    assert len(stable.split()) > 0.8 * len(said.split())
    assert (
        word_error_percent([normalise(final)[: len(normalise(stable))]], [normalise(stable)]) < 8.0
    )


def test_cancelled_before_it_began(engine):
    with pytest.raises(TranscriptionCancelledError):
        engine.transcribe(librivox()[4].samples, cancelled=lambda: True)
    assert engine.transcribe(librivox()[4].samples, context="cut").text  # and still usable


def test_a_prompt_is_understood(engine):
    heard = engine.transcribe(librivox()[4].samples, prompt="He was an amiable man.")
    assert "amiable" in heard.text


def test_interpreter_goes_on_while_it_transcribes(engine):
    """Heartbeats need the interpreter lock while the engine computes."""
    beats = 0
    done = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not done.wait(0.01):
            beats += 1

    thread = threading.Thread(target=beat)
    thread.start()
    engine.transcribe(librivox()[4].samples, context="full")
    done.set()
    thread.join()
    assert beats >= 5


@pytest.mark.parametrize("name", list(FILE_OF))
@pytest.mark.parametrize("keep_bytes", [0, 1000, 20_000_000])
def test_truncated_model_names_file_and_repair(tmp_path, name, keep_bytes):
    broken = tmp_path / MODEL_DIR.name
    broken.mkdir()
    for file in ("config.json", "vocabulary.txt"):
        shutil.copy(MODEL_DIR / file, broken)
    with (MODEL_DIR / FILE_OF[name]).open("rb") as whole:
        (broken / FILE_OF[name]).write_bytes(whole.read(keep_bytes))
    with pytest.raises(ApplianceError, match=rf"{FILE_OF[name]} cannot be used.*models fetch"):
        create_engine(name, broken)


def test_vocabulary_round_trip_and_known_tokens():
    vocabulary = Vocabulary.load(MODEL_DIR)
    text = " Hello, world! It's 3:45 — naïve café_x, 東京."
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode(" hello world") == [23748, 995]  # as GPT-2's tokenizer


def test_mel_filters_are_those_in_the_ggml_file():
    with (MODEL_DIR / "ggml-tiny.en.bin").open("rb") as file:
        file.seek(4 + 11 * 4)  # magic and hyperparameters
        shape = np.frombuffer(file.read(8), np.int32)
        filters = np.frombuffer(file.read(80 * 201 * 4), np.float32).reshape(80, 201)
    assert list(shape) == [80, 201]
    np.testing.assert_allclose(filters, mel_filters(), atol=1e-7)

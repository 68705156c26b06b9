"""The parts of recognition that need no model: features, tokens, guard, transcriber, scoring."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.asr.engine import (
    Context,
    EngineName,
    Timings,
    Transcription,
    TranscriptionCancelledError,
    choose_engine,
    create_engine,
    token_limit,
)
from appliance.asr.evaluation import evaluate_wer, normalise
from appliance.asr.features import FULL_FRAMES, context_frames, log_mel, mel_filters
from appliance.asr.guard import Verdict, contrast_db, has_loop, is_lost, judge, spoken_text
from appliance.asr.pieces import split_at_pauses, unheard_from
from appliance.asr.tokens import Vocabulary
from appliance.asr.transcriber import Transcriber
from appliance.asr.words import HeardWord, from_tokens, spread
from appliance.errors import ApplianceError

RATE = 16_000


def heard(
    text: str,
    *,
    avg_logprob: float = -0.2,
    no_speech_prob: float = 0.05,
    complete: bool = True,
) -> Transcription:
    return Transcription(text, (), avg_logprob, no_speech_prob, complete, Timings(1.0, 2.0, 3.0))


def with_words(transcription: Transcription, audio_s: float) -> Transcription:
    pieces = [f" {word}".encode() for word in transcription.text.split()]
    words = from_tokens(pieces, [0.9] * len(pieces), spread(pieces, audio_s), audio_s)
    return dataclasses.replace(transcription, words=words)


@dataclass(frozen=True)
class Recorded:
    samples: np.ndarray
    text: str


def speech(seconds: float) -> np.ndarray:
    """Something as uneven as speech: its contrast is above that of noise."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (samples * (np.arange(len(samples)) // 3200 % 2 + 0.01)).astype(np.float32)


class Scripted:
    """An engine that says what the test tells it to, and remembers what it was asked."""

    name: EngineName = "ctranslate2"

    def __init__(self, *answers: Transcription) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, Context, str]] = []

    def transcribe(
        self,
        samples: np.ndarray,
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
        words: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcription:
        if cancelled():
            raise TranscriptionCancelledError
        self.asked.append((len(samples), context, prompt))
        answer = self.answers.pop(0)
        return with_words(answer, len(samples) / RATE) if words else answer


# --- features ----------------------------------------------------------------------------------


def test_mel_filters_are_slaney_s():
    filters = mel_filters()
    assert filters.shape == (80, 201)
    # Values of librosa.filters.mel(sr=16000, n_fft=400, n_mels=80), as shipped with Whisper.
    assert filters[0, 1] == pytest.approx(0.024862593, rel=1e-4)
    assert filters[0, 0] == 0.0
    widths_hz = (filters > 0).sum(axis=1) * 40.0
    assert widths_hz[-1] > 4 * widths_hz[0]
    assert np.all(filters >= 0.0)


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.5, 3.21, 12.0])
def test_log_mel_of_audio_equals_the_transform_of_padded_audio(seconds):
    """The short cut (nothing is computed for silence) gives Whisper's own numbers."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32)
    padded = np.pad(samples, (200, 3000 * 160 - len(samples) + 200))
    padded[:200] = padded[201:401][::-1]
    window = np.hanning(401)[:-1]
    frames = np.stack([padded[i * 160 : i * 160 + 400] for i in range(3000)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    expected = np.log10(np.maximum(mel_filters().astype(np.float64) @ power.T, 1e-10))
    expected = (np.maximum(expected, expected.max() - 8.0) + 4.0) / 4.0
    np.testing.assert_allclose(log_mel(samples)[0], expected, atol=2e-3)


@given(st.integers(0, 31 * RATE))
def test_cut_context_holds_the_audio_and_a_margin(samples):
    cut, wide = context_frames(samples, "cut"), context_frames(samples, "wide")
    assert cut % 2 == wide % 2 == 0
    assert 1400 <= cut <= wide <= context_frames(samples, "full") == FULL_FRAMES
    assert cut == FULL_FRAMES or (cut * 160 >= samples + 2 * RATE and wide > cut)


# --- tokens ------------------------------------------------------------------------------------


def small_vocabulary() -> Vocabulary:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    single = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(others))]
    merges = ["he", "ll", "hell", "hello", "Ġw", "or", "ld", "Ġwor", "Ġworld"]
    return Vocabulary([*single, *merges, "<|endoftext|>", "<|startoftranscript|>"])


def test_encoding_applies_merges_by_rank():
    vocabulary = small_vocabulary()
    ids = vocabulary.encode("hello world")
    assert [vocabulary.decode([token]) for token in ids] == ["hello", " world"]


@given(st.text())
def test_decoding_undoes_encoding(text):
    vocabulary = small_vocabulary()
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_special_tokens_are_no_text():
    vocabulary = small_vocabulary()
    assert vocabulary.decode([*vocabulary.encode("hello"), vocabulary.end_of_text]) == "hello"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (None, b""),
        ("vocabulary.txt", b"a\nb\nc\n"),
        ("vocabulary.txt", b"\xff\xfe\xff"),
        ("vocabulary.json", b"[1, 2"),
        ("vocabulary.json", json.dumps({"a": 1}).encode()),
    ],
)
def test_bad_vocabulary_names_the_repair(tmp_path, file, content):
    if file:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ApplianceError, match="appliance models fetch"):
        Vocabulary.load(tmp_path)


# --- guard -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "10 of clubs 10 of clubs 10 of clubs 10 of",
        "old-s-s-s-s-y-y-y",
        "five five five five",
        "thank you. thank you. thank you.",
        "the party does not accept calls the party does not accept calls",
    ],
)
def test_loops_are_found(text):
    assert has_loop(text)
    assert judge(heard(text), speech(3.0), "cut") is Verdict.RETRY


def test_words_that_take_no_time_are_doubted():
    words = [HeardWord("Login", 0.9, 0.0, 0.9), HeardWord("incorrect.", 0.9, 0.9, 1.5)]
    nowhere = [dataclasses.replace(word, start_s=1.7, end_s=1.7) for word in words]
    assert not is_lost(dataclasses.replace(heard("x"), words=tuple(words)), 2.0)
    assert is_lost(dataclasses.replace(heard("x"), words=(*words, *nowhere)), 2.0)


@pytest.mark.parametrize(
    "text", ["", "no no", "it is what it is", "had had a had had", "5 5", "the cat and the dog"]
)
def test_ordinary_repetition_is_no_loop(text):
    assert not has_loop(text)


@pytest.mark.parametrize(
    "doubtful",
    [
        heard("Agent log darth", avg_logprob=-1.0),
        heard("and then and", complete=False),
        heard(" ".join(f"word{i}" for i in range(30))),
    ],
)
def test_doubtful_cut_context_is_retried_but_full_is_final(doubtful):
    assert judge(doubtful, speech(3.0), "cut") is Verdict.RETRY
    assert judge(doubtful, speech(3.0), "wide") is Verdict.RETRY
    assert judge(doubtful, speech(3.0), "full") is Verdict.OK


@pytest.mark.parametrize("text", ["you", "Thank you.", "[BLANK_AUDIO]", "(music)", ".", "♪♪", ""])
def test_noise_is_nothing_said(text):
    noise = heard(text, avg_logprob=-0.45, no_speech_prob=0.95)
    assert judge(noise, speech(1.0), "cut") is Verdict.NOTHING_SAID
    assert judge(noise, speech(1.0), "full") is Verdict.NOTHING_SAID


@pytest.mark.parametrize("text", ["Thank you.", "You.", "Okay."])
def test_the_same_words_really_spoken_are_kept(text):
    assert judge(heard(text), speech(1.0), "cut") is Verdict.OK


def test_engine_without_no_speech_probability_is_judged_by_certainty():
    assert (
        judge(heard("you", avg_logprob=-0.9, no_speech_prob=math.nan), speech(1.0), "cut")
        is Verdict.NOTHING_SAID
    )
    assert judge(heard("you", no_speech_prob=math.nan), speech(1.0), "cut") is Verdict.OK


def test_sure_words_of_even_noise_are_not_believed_without_that_probability():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    sure = heard("You", no_speech_prob=math.nan)
    assert judge(sure, noise, "full") is Verdict.NOTHING_SAID
    assert judge(sure, speech(1.0), "full") is Verdict.OK
    assert contrast_db(noise) < 10.0 < contrast_db(speech(1.0))


def test_unlikely_speech_with_sure_words_is_kept():
    assert judge(heard("turn on the light", no_speech_prob=0.7), speech(2.0), "cut") is Verdict.OK


def test_words_that_even_full_context_gives_by_chance_are_none():
    chance = heard("form altered Recall We funded", avg_logprob=-3.1)
    assert judge(chance, speech(3.0), "cut") is Verdict.RETRY
    assert judge(chance, speech(3.0), "full") is Verdict.NOTHING_SAID


def test_annotations_are_taken_out_and_spaces_normalised():
    assert spoken_text("  Hello\n  [NOISE] there (coughs) ♪ la ♪ you *sighs*") == "Hello there you"


# --- transcriber -------------------------------------------------------------------------------


def test_good_cut_context_is_final():
    engine = Scripted(heard(" Hello   there. "))
    utterance = Transcriber(engine).transcribe(np.ones(RATE, np.float32), prompt="Before.")
    assert utterance.text == "Hello there."
    assert utterance.retries == 0
    assert not utterance.suspect
    assert engine.asked == [(RATE, "cut", "Before.")]


def test_loop_is_heard_again_with_more_context_without_the_prompt():
    engine = Scripted(heard("five five five five"), heard("five five"))
    utterance = Transcriber(engine).transcribe(np.ones(RATE, np.float32), prompt="Before.")
    assert utterance.text == "five five"
    assert utterance.retries == 1
    assert utterance.timings.total_ms == 12.0
    assert [context for _, context, _ in engine.asked] == ["cut", "wide"]
    assert engine.asked[1][2] == ""


def test_unsure_words_that_are_heard_again_are_believed():
    unsure = heard("Agent log off", avg_logprob=-0.8)
    engine = Scripted(unsure, heard("agent, log off.", avg_logprob=-0.7))
    assert Transcriber(engine).transcribe(speech(2.0)).text == "agent, log off."
    assert [context for _, context, _ in engine.asked] == ["cut", "wide"]


def test_unsure_words_that_change_are_heard_in_full():
    engine = Scripted(
        heard("Agent log dove", avg_logprob=-0.8),
        heard("Agent log off", avg_logprob=-0.7),
        heard("Agent log of", avg_logprob=-0.9),
    )
    utterance = Transcriber(engine).transcribe(speech(2.0))
    assert (utterance.text, utterance.retries) == ("Agent log of", 2)
    assert [context for _, context, _ in engine.asked] == ["cut", "wide", "full"]


def test_a_loop_that_is_heard_twice_is_not_believed():
    engine = Scripted(*[heard("five five five five")] * 2, heard("five"))
    assert Transcriber(engine).transcribe(speech(2.0)).text == "five"


def test_a_loop_that_is_another_each_time_has_no_words_in_it():
    """Each context goes round in other circles: none of them was said."""
    engine = Scripted(
        heard("four four four four"), heard("five six five six five six"), heard("i i i i i")
    )
    assert Transcriber(engine).transcribe(speech(2.0)).text == ""


def test_loop_that_stays_is_marked():
    engine = Scripted(*[heard("five five five five")] * 3)
    assert Transcriber(engine).transcribe(speech(1.0)).suspect


def test_long_audio_has_no_wide_context():
    engine = Scripted(heard("five five five five"), heard("five"))
    Transcriber(engine).transcribe(speech(27.0))
    assert [context for _, context, _ in engine.asked] == ["cut", "full"]


def test_no_audio_needs_no_engine():
    utterance = Transcriber(Scripted()).transcribe(np.zeros(0, np.float32))
    assert utterance.text == ""


def test_cancelling_reaches_the_engine():
    with pytest.raises(TranscriptionCancelledError):
        Transcriber(Scripted(heard("x"))).transcribe(
            np.ones(RATE, np.float32), cancelled=lambda: True
        )


def test_long_audio_with_a_pause_is_cut_in_the_pause():
    audio = np.random.default_rng(0).standard_normal(40 * RATE).astype(np.float32) * 0.1
    audio[24 * RATE : int(24.5 * RATE)] *= 1e-3
    engine = Scripted(heard("the first half"), heard("the second half"))
    assert Transcriber(engine).transcribe(audio).text == "the first half the second half"
    first, second = (samples for samples, _, _ in engine.asked)
    assert first + second == len(audio)
    assert 24 * RATE < first < 24.5 * RATE


def test_long_audio_without_a_pause_overlaps_and_says_shared_words_once():
    audio = np.random.default_rng(0).standard_normal(40 * RATE).astype(np.float32) * 0.1
    engine = Scripted(
        heard("one thing leads to another and then we"), heard("another, and then we stop here")
    )
    utterance = Transcriber(engine).transcribe(audio)
    assert utterance.text == "one thing leads to another and then we stop here"
    assert sum(samples for samples, _, _ in engine.asked) == len(audio) + 2 * RATE


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 150.0), st.integers(0, 9))
def test_pieces_hold_every_sample_and_fit_the_model(seconds, seed):
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    for start in rng.integers(0, max(1, len(audio)), rng.integers(0, 9)):
        audio[start : start + RATE // 2] *= 1e-4
    pieces = list(split_at_pauses(audio))
    if len(audio):
        assert (pieces[0].start, pieces[-1].end) == (0, len(audio))
    for piece in pieces:
        assert 0 < piece.end - piece.start <= 30 * RATE
    for before, after in pairwise(pieces):
        assert after.start == before.end - (2 * RATE if after.overlaps else 0)


def test_speech_after_the_last_word_is_unheard():
    audio = np.concatenate((speech(3.0), np.full(RATE // 2, 1e-4), speech(4.0))).astype(np.float32)
    early = [HeardWord("Hello.", 0.9, 2.4, 7.5)]  # the last word is given all that follows
    resume = unheard_from(audio, early)
    assert resume is not None
    assert 3.0 <= resume / RATE <= 3.6
    assert unheard_from(audio, [HeardWord("there", 0.9, 7.0, 7.4)]) is None
    assert unheard_from(audio[: 4 * RATE], early) is None  # less than half a second
    assert unheard_from(audio, []) is None
    assert unheard_from(audio, [HeardWord("odd", 0.9, 2.4, 1.0)]) is not None
    assert unheard_from(audio, [HeardWord("odd", 0.9, 90.0, 99.0)]) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 12.0), st.floats(0.0, 3.0), st.integers(0, 4 * RATE))
def test_going_on_always_makes_progress(start_s, lasts_s, samples):
    resume = unheard_from(speech(4.0)[:samples], [HeardWord("x", 0.9, start_s, start_s + lasts_s)])
    assert resume is None or 0 < resume < samples


# --- choice of engine, limits, scoring ---------------------------------------------------------


def test_engine_is_chosen_by_figures_then_by_hardware():
    assert choose_engine(cuda=False, figures_ms={}) == "ctranslate2"
    assert choose_engine(cuda=True, figures_ms={}) == "whisper.cpp"
    figures = {"ctranslate2": 140.0, "whisper.cpp": 60.0}
    assert choose_engine(cuda=False, figures_ms=figures) == "whisper.cpp"


def test_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ApplianceError, match="choose auto, ctranslate2"):
        create_engine("vosk", tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["ctranslate2", "whisper.cpp"])
def test_missing_model_names_file_and_repair(tmp_path, engine):
    with pytest.raises(ApplianceError, match=r"whisper-x.* is missing; .*models fetch whisper-x"):
        create_engine(engine, tmp_path / "whisper-x")


def test_engine_that_is_not_installed_says_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "whisper_cpp_python", None)
    with pytest.raises(ApplianceError, match=r"pip install whisper-cpp-python==0\.2\.0"):
        create_engine("whisper-cpp-python", tmp_path)


def test_token_limit_grows_with_the_audio_up_to_whisper_s():
    assert token_limit(0.0) == 16
    assert token_limit(3.0) == 46
    assert token_limit(30.0) == 224


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("10 of Clubs.", "ten of clubs"),
        ("Mr. Dashwood's", "mister dashwoods"),
        ("Can't — won't!", "can not will not"),
        ("1,234 at 05", "one thousand two hundred thirty four at zero five"),
        ("[noise] It’s 42", "it is forty two"),
        ("www.x.org", "www x org"),
    ],
)
def test_style_is_not_counted_as_error(written, spoken):
    assert normalise(written) == spoken


def test_word_error_rate_counts_words():
    recordings = [
        Recorded(np.zeros(RATE, np.float32), "one two three four"),
        Recorded(np.zeros(RATE, np.float32), "five"),
    ]
    answers = iter(["1 2 tree 4", "5"])
    figures = evaluate_wer(lambda _: next(answers), recordings)
    assert figures["wer_percent"] == pytest.approx(20.0)
    assert figures["words"] == 5.0
    with pytest.raises(ApplianceError, match="no recordings"):
        evaluate_wer(lambda _: "", [])

"""The vocabulary mends what was misheard of it, and nothing else."""

import json
import math
import string
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.asr.correction import Candidate, Entry, bare, uncertainty
from appliance.asr.phonetics import sound
from appliance.asr.vocabulary import ContextVocabulary, load_vocabulary
from appliance.asr.words import HeardWord
from appliance.errors import ApplianceError


def heard(text: str, probability: float = 0.9, **unsure: float) -> tuple[HeardWord, ...]:
    return tuple(
        HeardWord(word, unsure.get(word.strip(".,?!"), probability), float(n), n + 1.0)
        for n, word in enumerate(text.split())
    )


class Audio:
    """Audio in which ``said`` is heard once it is prompted, and is the most probable text."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.prompts: list[str] = []

    def hear(self, prompt: str) -> Sequence[HeardWord]:
        self.prompts.append(prompt)
        return heard(self.said)

    def score(self, texts: Sequence[str], prompt: str) -> list[float]:
        return [-1.0 if bare(text) == bare(self.said) else -25.0 for text in texts]


VOCABULARY = ContextVocabulary(
    {"Okonkwo": 3.0, "Doctor Okonkwo": 3.0, "Siobhan": 3.0, "living room lamp": 3.0, "Tado": 3.0}
)
EMPTY = ContextVocabulary({})

words_lists = st.lists(
    st.builds(
        HeardWord,
        st.one_of(
            st.text(min_size=1, max_size=12).filter(lambda text: len(text.split()) == 1),
            st.sampled_from(["Okonkwo", "a", "conquo", "call", "shavon,", "Tado", "title", "🙂"]),
        ),
        st.one_of(st.floats(0.0, 1.0), st.just(math.nan)),
        st.floats(0.0, 30.0),
        st.floats(0.0, 30.0),
    ),
    max_size=8,
)


@given(words_lists)
def test_without_entries_nothing_is_touched(words):
    assert EMPTY.correct(words).words == tuple(words)
    assert EMPTY.correct(words).corrections == ()


@settings(max_examples=150, deadline=None)
@given(words_lists, st.text(max_size=40))
def test_correcting_twice_is_correcting_once(words, dialogue):
    once = VOCABULARY.correct(words, dialogue)
    twice = VOCABULARY.correct(once.words, dialogue)
    assert twice.text == once.text
    assert twice.corrections == ()


@settings(max_examples=50, deadline=None)
@given(words_lists, words_lists, st.floats(-1e6, 0.0))
def test_odd_answers_of_the_audio_do_no_harm(words, again, score):
    class Odd:
        def hear(self, prompt):
            return again

        def score(self, texts, prompt):
            return [score] * len(texts)

    assert isinstance(VOCABULARY.correct(words, "", Odd()).text, str)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Call okonkwo.", "Call Okonkwo."),
        ('"Doctor okonkwo", please', '"Doctor Okonkwo", please'),
        ("Is the Living Room lamp on?", "Is the living room lamp on?"),
        ("Living room lamp off", "Living room lamp off"),
        ("TADO!", "Tado!"),
    ],
)
def test_entries_keep_their_spelling_and_what_stands_around_them(said, written):
    corrected = VOCABULARY.correct(heard(said))
    assert corrected.text == written
    assert corrected.corrections == ()


def test_a_near_miss_that_the_decoder_doubted_is_mended():
    corrected = VOCABULARY.correct(heard("Please call Shavawn, today.", Shavawn=0.2))
    assert corrected.text == "Please call Siobhan, today."
    assert corrected.corrections == (("Shavawn,", "Siobhan"),)
    assert corrected.words[2].start_s == 2.0
    assert corrected.words[2].end_s == 3.0


def test_a_name_in_pieces_is_put_together_over_their_time():
    corrected = VOCABULARY.correct(heard("Call a con quo.", 0.3))
    assert corrected.text == "Call Okonkwo."
    assert (corrected.words[1].start_s, corrected.words[1].end_s) == (1.0, 4.0)


def test_an_entry_of_several_words_gets_as_many():
    corrected = VOCABULARY.correct(heard("I saw Doctor a conquo today", 0.9, a=0.2, conquo=0.1))
    assert corrected.text == "I saw Doctor Okonkwo today"
    assert [word.start_s for word in corrected.words] == sorted(
        word.start_s for word in corrected.words
    )


@pytest.mark.parametrize(
    "text",
    [
        "What is the weather going to be like tomorrow afternoon?",
        "Set a timer for twelve minutes, and turn off all the lights in the house.",
        "Why don't you tell me a story?",
    ],
)
def test_other_words_are_left_alone(text):
    assert VOCABULARY.correct(heard(text)).text == text


def test_the_audio_decides_between_the_title_and_tado():
    words = heard("Is the title on?", 0.5)
    assert VOCABULARY.correct(words).text == "Is the title on?"
    assert VOCABULARY.correct(words, "", Audio("Is the Tado on?")).text == "Is the Tado on?"
    assert VOCABULARY.correct(words, "", Audio("Is the title on?")).text == "Is the title on?"


def test_the_audio_is_not_asked_about_words_that_sound_like_no_entry():
    audio = Audio("hum")
    VOCABULARY.correct(heard("I wish you peace."), "", audio)
    assert audio.prompts == []


def test_a_high_boost_dares_more():
    words = heard("Is the tuner on?", 0.6)
    assert ContextVocabulary({"Tado": 0.0}).correct(words).text == "Is the tuner on?"
    assert ContextVocabulary({"Tado": 10.0}).correct(words).text == "Is the Tado on?"


def test_an_ordinary_word_needs_no_other_explanation():
    words = heard("Please coal my brother.", coal=0.4)
    strict = ContextVocabulary({"Cole": 3.0}, pieces=lambda word: 1)
    assert ContextVocabulary({"Cole": 3.0}).correct(words).text == "Please Cole my brother."
    assert strict.correct(words).text == "Please coal my brother."


def test_names_of_the_last_turns_are_listened_for_and_forgotten():
    words = heard("Where is Trandhime?", Trandhime=0.1)
    said = "The train goes to Trondheim at nine."
    assert EMPTY.correct(words, said).text == "Where is Trondheim?"
    assert EMPTY.correct(words, f"{said}\nYes.\nNo.\nGood night.").text == "Where is Trandhime?"


def test_a_word_that_begins_a_sentence_is_no_name_unless_it_is_rare():
    words = heard("Tell me about wether", wether=0.1)
    assert EMPTY.correct(words, "Fine. Weather is good.").text == "Tell me about wether"
    rare = ContextVocabulary({}, pieces=lambda word: 3 if word == "Weather" else 2)
    assert rare.correct(words, "Fine. Weather is good.").text == "Tell me about Weather"


def test_a_model_knows_which_words_are_rare(tmp_path):
    tokens = [
        *string.ascii_letters,
        "Ġ",
        "Ġt",
        "Ġth",
        "Ġthe",
        "<|endoftext|>",
        "<|startoftranscript|>",
    ]
    (tmp_path / "vocabulary.json").write_text(json.dumps(tokens))
    vocabulary = load_vocabulary({}, language="en", model_dir=tmp_path)
    words = heard("Take the bisoproloal", bisoproloal=0.1)
    assert vocabulary.correct(words, "You need the bisoprolol now.").text == "Take the bisoprolol"


def test_a_configured_entry_keeps_its_boost_when_it_is_said():
    words = heard("Is the toddy on?", 0.6)
    vocabulary = ContextVocabulary({"Tado": 10.0})
    assert vocabulary.correct(words, "I switched the tado and Tado off.").text == "Is the Tado on?"


def test_nothing_is_prompted_before_something_was_heard():
    assert VOCABULARY.prompt("Doctor Okonkwo called.") == ""


@pytest.mark.parametrize("text", ["word{}", "shavawn", "Siobhan"])
def test_a_thousand_words_take_bounded_time(text):
    entries = {f"Siobhan{'abcdefghij'[number % 10] * (number // 10)}": 3.0 for number in range(60)}
    vocabulary = ContextVocabulary(entries)
    words = heard(" ".join(text.format(number) for number in range(1000)), 0.3)
    began = time.process_time()
    assert len(vocabulary.correct(words).words) <= 1000
    assert time.process_time() - began < 5.0


def test_an_entry_that_nobody_can_say_is_left_out():
    assert ContextVocabulary({"🙂": 10.0, "": 10.0, "…": 10.0}).correct(heard("🙂")).text == "🙂"


def test_a_language_without_pronunciation_is_an_error():
    with pytest.raises(ApplianceError, match="'zz'"):
        ContextVocabulary({"Okonkwo": 3.0}, language="zz")


def test_a_language_without_pronunciation_needs_none_without_entries():
    words = heard("Where is Trandhime?", Trandhime=0.1)
    vocabulary = ContextVocabulary({}, language="zz")
    assert vocabulary.correct(words, "The train goes to Trondheim.").words == words


def test_whispers_codes_for_languages_are_understood():
    assert sound("Okonkwo", "zh")
    assert sound("Okonkwo", "no")


def test_a_like_sound_is_near_and_an_unlike_one_far():
    def distance(left: str, right: str) -> float:
        from rapidfuzz.distance import Levenshtein

        return Levenshtein.normalized_distance(sound(left), sound(right))

    assert sound("Shelley") == sound("Shelly")
    assert distance("bat", "pat") < distance("bat", "sat")
    assert distance("Okonkwo", "a conquo") < 0.25
    assert distance("Okonkwo", "Mondoro") > 0.5
    assert sound("🙂 …") == ""


def test_an_unknown_probability_is_neither_sure_nor_unsure():
    sure, unknown, unsure = (HeardWord("a", p, 0.0, 1.0) for p in (0.95, math.nan, 0.1))
    assert uncertainty(sure) < uncertainty(unknown) < uncertainty(unsure)
    assert uncertainty(HeardWord("a", 0.0, 0.0, 1.0)) == uncertainty(HeardWord("a", 1e-9, 0, 1))


@given(st.floats(0.0, 1.0), st.floats(0.0, 3.0), st.floats(0.0, 10.0), st.floats(0.0, 1.0))
def test_odds_grow_with_likeness_boost_and_gain(distance, unsure, boost, again):
    def candidate(distance: float, boost: float) -> Candidate:
        return Candidate(Entry("a", "b", boost), 0, 1, distance, unsure)

    one = candidate(distance, boost)
    for better in (candidate(0.5 * distance, boost), candidate(distance, boost + 1)):
        assert better.odds() >= one.odds()
        assert better.odds_given(0.0, again) >= one.odds_given(0.0, again)
    assert one.odds_given(5.0, again) > one.odds_given(0.0, again)
    assert one.odds_given(0.0, 0.5 * again) >= one.odds_given(0.0, again)

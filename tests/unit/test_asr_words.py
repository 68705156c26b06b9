"""Words with times: made of tokens, aligned, spliced, cleaned of annotations."""

import math
import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.asr.guard import spoken_text, spoken_words
from appliance.asr.words import HeardWord, align, from_tokens, splice, spread, text_of


def said(text: str, *, start_s: float = 0.0, each_s: float = 0.4) -> list[HeardWord]:
    return [
        HeardWord(word, 0.9, start_s + i * each_s, start_s + (i + 1) * each_s)
        for i, word in enumerate(text.split())
    ]


# --- tokens to words ---------------------------------------------------------------------------


def test_tokens_become_words_with_their_own_times_and_probabilities():
    pieces = [b" Mr", b".", b" Dash", b"wood", b","]
    words = from_tokens(pieces, [0.9, 0.1, 0.4, 0.9, 0.2], [0.0, 0.3, 0.5, 0.7, 0.9], 1.2)
    assert [word.text for word in words] == ["Mr.", "Dashwood,"]
    assert [(word.start_s, word.end_s) for word in words] == [(0.0, 0.3), (0.5, 0.9)]
    assert words[0].probability == pytest.approx(0.9)  # the full stop says nothing about it
    assert words[1].probability == pytest.approx(math.sqrt(0.4 * 0.9))


def test_a_character_in_two_tokens_is_whole():
    first, second = " café".encode()[:-1], "é".encode()[-1:]
    assert from_tokens([first, second], [1.0, 1.0], [0.0, 0.1], 1.0)[0].text == "café"


def test_no_tokens_are_no_words():
    assert from_tokens([], [], spread([], 3.0), 3.0) == ()
    assert from_tokens([b" "], [1.0], [0.0], 1.0) == ()


@given(st.lists(st.binary(max_size=6), max_size=20), st.floats(0.0, 600.0))
def test_guessed_times_are_in_order_and_within_the_audio(pieces, audio_s):
    words = from_tokens(pieces, [0.5] * len(pieces), spread(pieces, audio_s), audio_s)
    for word in words:
        assert 0.0 <= word.start_s <= word.end_s <= audio_s * (1 + 1e-9) + 1e-9
    for before, after in pairwise(words):
        assert before.end_s <= after.start_s + 1e-9


@given(st.lists(st.sampled_from(["so", "[NOISE]", "(a cough)", "♪ la ♪", "*sighs*", "it(s)"])))
def test_words_lose_the_same_annotations_as_the_text(parts):
    text = " ".join(parts)
    without = spoken_text(text.replace("it(s)", "its"))
    assert text_of(spoken_words(said(text.replace("it(s)", "its")))) == without


# --- alignment ---------------------------------------------------------------------------------


def test_a_repeated_beginning_is_found_though_a_word_changed():
    found = align(said("turn off the late"), said("Turn off the light in here"), from_s=0.0)
    assert found.repeated == 4
    assert found.agreed == ((0, 0), (1, 1), (2, 2))


def test_times_tell_which_of_equal_words_it_is():
    heard_before = said("go on and on and", start_s=0.0)
    heard_now = said("go on and on and on and on", start_s=0.0)
    assert align(heard_before, heard_now, from_s=0.0).repeated == 5
    assert align(said("on", start_s=1.2), heard_now[3:], from_s=0.0).repeated == 1


def test_words_whose_audio_is_gone_need_not_be_repeated():
    earlier = said("one two three four", start_s=0.0)
    later = said("three four five", start_s=0.8)
    assert align(earlier, later, from_s=0.8).repeated == 2


words = st.lists(st.text(string.ascii_lowercase, min_size=3, max_size=8), max_size=12)


@given(words, words)
def test_splicing_words_with_nothing_in_common_keeps_all(left, right):
    right = [word + "1" for word in right]
    joined = splice(said(" ".join(left)), said(" ".join(right), start_s=4.0))
    assert text_of(joined).split() == [*left, *right]


@given(st.integers(0, 10), st.integers(1, 6), st.integers(0, 10), st.floats(-0.3, 0.3))
def test_splicing_says_the_shared_passage_once(before, shared, after, off_s):
    names = [f"word{i}" for i in range(before + shared + after)]
    left = said(" ".join(names[: before + shared]))
    right = said(" ".join(names[before:]), start_s=before * 0.4 + off_s)
    assert text_of(splice(left, right)).split() == names


def test_common_word_far_from_the_seam_loses_nothing():
    left, right = "that one two three four five six", "seven eight nine that ten"
    joined = splice(said(left), said(right, start_s=2.4))
    assert text_of(joined) == f"{left} {right}"


def test_word_cut_in_half_by_the_seam_gives_way():
    joined = splice(said("we go home to mor"), said("go home tomorrow", start_s=0.4))
    assert text_of(joined) == "we go home tomorrow"

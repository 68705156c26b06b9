"""Nothing unspeakable passes, however the answer arrives."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.speech_text.characters import fold
from appliance.speech_text.gaps import rewrite
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import SpeechFilter, SpeechStream, clean, speakable

NASTY = Path(__file__).parents[1] / "data" / "nasty"
CASES = [
    case
    for path in sorted(NASTY.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
FRAGMENTS = """
Rome is the capital ha ha no I am sorry 你好 。 ， ！ ** * *** _ __ ~~ ~ ` ``` # ## - -- — – + 1. 2)
[ ] ( ) [text](http://a.b/c) ![x](y) [1] [^2] ]( ][ < > <b> </b> <br> <think> </think> <think
<!-- --> <|im_end|> <|im_start|> <|endoftext|> assistant user User: Assistant: System 用户： 助手:
http:// https://www.example.com/a?b=c#d www. example.com foo@bar.com mailto: & &amp; &lt; &amp;lt;
$ $5 $x^2$ \\frac{1}{2} \\( \\) \\[ \\n { } }{ ^ ^2 | |---| || ! !!! ... … . , ; : ' " “ ” ’ ( )
/ = == != <= -> => × ÷ % ° °C 5 3.14 1,000 5:30 -3 C++ C# AT&T 😀 👍🏽 ❤️ \u200b \u202e \ufeff
\x00 \x07 \ud800 é e\u0301 \u0301\u0301\u0301\u0301 ½ ² Ａ ① 𝐁 ﬁ ™ \u2028 مرحبا שלום привет ไทย
नमस्ते aaaaaaa &#60;
"""
PARTS = st.sampled_from([*FRAGMENTS.split(), " ", "  ", "\n", "\n\n", "\t"])
TEXTS = st.one_of(
    st.lists(PARTS, max_size=25).map("".join),
    st.lists(PARTS, max_size=25).map(" ".join),
    st.text(max_size=120),
    st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: " ".join(parts * 12)),
)


HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "So", "Sk", "Me", "Zl", "Zp"})


def assert_speakable(text: str) -> None:
    """Only letters, digits and marks; no markup, nothing invisible, no loop, no endless word."""
    text.encode()
    for char in text:
        category = unicodedata.category(char)
        assert char in "\n^°" or category not in HIDDEN
        assert char not in '`*_[]{}|\\"()•'
    assert not re.search(r"<\S|https?:/|&[a-z]+;|\s{2}|^\s|\s$", text), text
    assert not re.search(r"[!?。！？;:]{2}|\.{4}|([^\W\d_])\1{3}", text), text
    assert all(len(word) <= 64 or not word.isascii() for word in re.findall(r"[^\W_]+", text))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_nasty_answers_of_language_models(case: dict[str, str]) -> None:
    text = case["text"] * case.get("times", 1)
    assert clean(text) == case["spoken"]
    assert_speakable(clean(text))


@settings(max_examples=400, derandomize=True)
@given(TEXTS)
def test_nothing_unspeakable_passes_and_cleaning_twice_changes_nothing(text: str) -> None:
    spoken = clean(text)
    assert_speakable(spoken)
    assert len(spoken) <= 3 * len(text) + 8
    assert clean(spoken) == spoken


@settings(max_examples=400, derandomize=True)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=12))
def test_what_is_spoken_does_not_depend_on_how_it_was_cut(text: str, places: list[int]) -> None:
    cuts = sorted(min(place, len(text)) for place in places)
    for pieces in ([text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])], list(text)):
        speech = SpeechFilter()
        assert "".join([speech.push(piece) for piece in pieces] + [speech.finish()]) == clean(text)


@given(st.text(st.characters(), max_size=50))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_every_gap_between_words_settles() -> None:
    signs = " \n.,:!-*(\"'/)$%+=<#~^&°—。"
    for length in (1, 2, 3):
        for raw in map("".join, itertools.product(signs, repeat=length)):
            for before, after in (("a", "b"), ("5", "3"), ("好", "你"), ("", "5"), ("a", "")):
                kept = rewrite(before, raw, after)
                assert rewrite(before, kept, after) == kept, (before, raw, after)


def test_an_answer_is_given_as_soon_as_it_is_certain() -> None:
    speech = SpeechFilter()
    assert [speech.push(piece) for piece in ("Rome", ".", " It", " lies")] == [
        "Rome",
        ".",
        " It",
        " lies",
    ]
    assert speech.push(" <th") == ""
    assert speech.push("ink>hm</think> there") == " there"


def test_a_stream_gives_chunks() -> None:
    stream = SpeechStream(SentenceSplitter(pieces_are_tokens=True), code_hint="Code follows.")
    chunks = []
    for piece in ("**Sure", "!**", " Here", " is it", ":\n", "```py", "\nx = 1\n``", "`\n", "Bye"):
        chunks += stream.push(piece)
    assert [*chunks, *stream.finish()] == ["Sure!", "Here is it:", "Code follows.", "Bye"]


def test_a_phrase_leaves_with_the_space_that_shows_its_next_word_to_be_whole() -> None:
    stream = SpeechStream(SentenceSplitter(first_phrase_words=3, pieces_are_tokens=True))
    assert [stream.push(p) for p in ("He", " wrote", " Hamlet", " in")] == [[]] * 4
    assert stream.push(" ") == ["He wrote Hamlet"]
    assert stream.push("16") + stream.push("03") + stream.finish() == ["in 1603"]


def test_what_follows_an_end_is_no_part_of_it() -> None:
    speech = SpeechFilter()
    speech.push("Rome.")
    assert not speech.ended
    speech.push("<|im_end|>")
    assert speech.ended


def test_an_ellipsis_is_no_end() -> None:
    stream = SpeechStream(SentenceSplitter(pieces_are_tokens=True))
    assert stream.push("He left") + stream.push("...") + stream.push(" maybe") == []
    assert stream.finish() == ["He left... maybe"]


def test_words_that_go_on_in_circles_stay_where_they_are_wanted() -> None:
    assert clean("ha " * 9) == "ha ha ha"
    assert clean("ha " * 9, repeats=True) == " ".join(["ha"] * 9)


@pytest.mark.parametrize(
    "text", ["<think>Hm. {</think> Rome.", "```py\nx = 1\n``` Rome.", "a <!-- b --> c"]
)
def test_what_is_hidden_ends_where_it_ends_however_it_is_cut(text: str) -> None:
    whole = clean(text)
    for size in range(1, 12):
        speech = SpeechFilter()
        parts = [speech.push(text[i : i + size]) for i in range(0, len(text), size)]
        assert "".join(parts) + speech.finish() == whole


def test_what_nobody_will_end_is_left_out_and_forgotten() -> None:
    speech = SpeechFilter()
    speech.push("<think>")
    for _ in range(1000):
        assert speech.push("so much thought, " * 10) == ""
    assert len(speech._structure._buffer) < 100
    assert speech.finish() == ""


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "<" * 100_000,
        "`" * 99_999,
        "(" * 100_000,
        "😀" * 100_000,
        "a. " * 30_000,
        "http://" + "a/" * 50_000,
        "\u0301" * 100_000,
        "1 " * 50_000,
        "\\" * 100_000,
    ],
    ids=lambda text: ascii(text[:4]),
)
def test_a_hundred_thousand_characters_are_no_burden(text: str) -> None:
    assert len(clean(text)) < 200


def test_one_line_is_made_of_a_chunk() -> None:
    assert speakable("- milk\n- eggs") == "milk. eggs"

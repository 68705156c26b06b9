"""Any text is spoken in bounded portions, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.speech_text.stream import clean
from appliance.tts.text import phrases


def spoken(text: str, language: str = "en-us") -> list[str]:
    return [phrase.text for phrase in phrases(text, language)]


def test_a_sentence_is_one_phrase_word_for_word() -> None:
    (phrase,) = phrases("Rome is  the capital\nof Italy.", "en-us")
    assert phrase.text == "Rome is the capital of Italy."
    assert phrase.words == ("Rome", "is", "the", "capital", "of", "Italy.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Well done 🎉👍🏽 my friend ❤️", "Well done my friend"),
        ("See https://www.example.com/a/b?c=d#e, please.", "See example.com, please."),
        ("It is 20°C and 5 % off €3.", "It is 20 degrees Celsius and 5 % off 3 euros."),
        ("zero\u200bwidth\ufeff and\x07 bell", "zerowidth and bell"),
        ("a — b ... c", "a b... c"),
        ("\ud800broken", "broken"),
        ("Привет, hello مرحبا שלום!", "hello"),
        ("naïve Łódź, π", "naïve Łódź, π"),
        ("**Mr.** Jones: 3.5 km, 1999", "Mister Jones: 3.5 kilometres, 19 99"),
        ("<think>What?", ""),
    ],
)
def test_what_no_voice_can_say_is_left_out(text: str, said: str) -> None:
    assert spoken(text) == ([said] if said else [])


def test_a_voice_speaks_its_own_writing() -> None:
    assert spoken("你好 world", "cmn") == ["你好 world"]
    assert spoken("привет", "ru") == ["привет"]
    assert spoken("3.5公里，2个", "cmn") == ["三点五公里，两个"]


def test_each_language_is_for_a_voice_of_its_own() -> None:
    said = phrases("You say 你好，3次 for hello.", "en-us")
    assert [(phrase.language, phrase.text) for phrase in said] == [
        ("en-us", "You say"),
        ("cmn", "你好，三次"),
        ("en-us", "for hello."),
    ]
    assert [phrase.language for phrase in phrases("我叫 Tom。 My name is Tom.", "cmn")] == [
        "cmn",
        "en-us",
    ]
    assert [phrase.language for phrase in phrases("日本語 is Japanese.", "ja")] == ["ja"]


def test_what_was_written_is_said_with_its_last_word() -> None:
    (phrase,) = phrases("It is 5 km, no more.", "en-us")
    assert phrase.text == "It is 5 kilometres, no more."
    assert phrase.words == ("It", "is", "", "5 km,", "no", "more.")


@pytest.mark.parametrize("text", ["", " \n", "🎉", "...", "\x00", "—"])
def test_nothing_to_say_is_no_phrase(text: str) -> None:
    assert spoken(text) == []


def test_a_long_text_is_cut_at_clauses_then_at_words() -> None:
    clauses = spoken("one two three four five six seven eight nine ten, " * 4)
    assert all(clause.endswith("ten,") for clause in clauses[:-1])
    words = spoken("word " * 800)
    assert all(100 <= len(phrase) <= 120 for phrase in words[:-1])
    assert sum(len(phrase.split()) for phrase in words) == 800


def test_a_long_word_counts_when_its_last_part_is_said() -> None:
    word = "0123456789" * 4
    parts = phrases(f"{word} end", "de")
    assert [word for phrase in parts for word in phrase.words] == ["", word, "end"]


NUMBERS = st.text(st.sampled_from("0123456789 .,:-/$%°CkmXIV年月"), max_size=60)


@given(st.text(max_size=2000) | NUMBERS, st.sampled_from(["en-us", "cmn"]))
def test_every_phrase_is_short_and_has_a_word_for_each_of_its_own(text: str, language: str) -> None:
    said = phrases(text, language)
    for phrase in said:
        assert phrase.text
        assert len(phrase.text) <= 121
        assert len(phrase.text.split()) == len(phrase.words)
        assert phrase.text.isprintable()
        phrase.text.encode()
    rest = "".join(clean(text, repeats=True).split())
    for word in (word for phrase in said for each in phrase.words for word in each.split()):
        _, found, rest = rest.partition(word)
        assert found == word, "in order, and nothing that was not written"

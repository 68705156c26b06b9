"""A model can only talk: no answer of its says that something was, is being or will be done."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.answer import Answer
from appliance.llm.honesty import CANNOT, CANNOT_KEEP, ONLY_TALK, Honesty
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import SpeechStream

CLAIMS = (
    "Sure, I'll vacuum the hall.",
    "Sure, I'll send you a message.",
    "Sure! I will turn on the lights right away.",
    "I've turned the heating up to 22 degrees.",
    "I have sent an email to Bob.",
    "I'm calling your mother now.",
    "Okay, calling your mother.",
    "Playing some jazz.",
    "Done.",
    "Okay. Done!",
    "The lights are now on.",
    "Your pizza has been ordered and is on its way.",
    "Let me check the calendar for you.",
    "Yes, I can restart the router.",
    "I'm going to book a table for two.",
    "I turned off the oven.",
    "Sure, I'll leave the light on for Tom.",
    "Okay, I will juggle three balls for you.",
    "好的，我已经打开了灯。",
    "我马上为你播放音乐。",
    "好的，正在给妈妈打电话。",
)
TRUE = (
    "Rome.",
    "Sure, I can help with that. What do you need?",
    "I can't turn on the lights.",
    "Sure! Here is a joke about a robot.",
    "I'll tell you a story.",
    "Sure, I'll explain it.",
    "Of course, I'd be glad to talk about it.",
    "I have no eyes, so I cannot see.",
    "I am a voice assistant.",
    "The light of the sun takes eight minutes.",
    "The capital of France is Paris.",
    "Playing chess improves memory.",
    "Calling a doctor is a good idea.",
    "You can turn the lights on by the door.",
    "Yes.",
    "I don't know who turned the lights off.",
    "Let us look at the stars. They are far away.",
    "好的。",
    "我不能打开灯。",
    "我是一个语音助手。",
    "巴黎。它在法国。",
    "当然可以，地球绕着太阳转。",
)


def said(text: str, *cuts: int) -> str:
    """What is said of a text that comes in pieces, cut between words."""
    words = text.split(" ")
    places = [0, *sorted(cuts), len(words)]
    honesty = Honesty()
    pieces = [" ".join(words[a:b]) for a, b in pairwise(places) if a < b]
    out = [said for piece in pieces for said in honesty.push([piece])]
    return " ".join(out + honesty.finish())


@pytest.mark.parametrize("text", CLAIMS)
def test_a_claim_is_never_said(text: str) -> None:
    assert said(text) in CANNOT
    assert said(f"{text} Anything else?") in CANNOT


@pytest.mark.parametrize("text", TRUE)
def test_everything_else_is_said_as_it_is(text: str) -> None:
    assert said(text) == text


def test_a_claim_to_remember_says_how_it_is_done() -> None:
    assert said("Okay, I'll remember that your dog is called Rex.") == CANNOT_KEEP[0]


@pytest.mark.parametrize("text", ["Sure, I can help with that.", "Yes, I can.", "Yes, I would!"])
def test_an_answer_that_only_agrees_is_no_answer(text: str) -> None:
    for cut in range(len(text.split())):
        assert said(text, cut) == ONLY_TALK[0]
    assert said(f"{text} What do you need?") == f"{text} What do you need?"


def test_a_claim_after_something_true_ends_the_answer() -> None:
    text = "Dogs need food. I'll feed your dog. It will like that."
    assert said(text) == f"Dogs need food. {CANNOT[0]}"


@given(st.sampled_from(CLAIMS + TRUE), st.lists(st.integers(0, 60), max_size=12))
def test_it_does_not_matter_how_the_text_is_cut_up(text: str, cuts: list[int]) -> None:
    assert said(text, *(min(cut, len(text.split(" "))) for cut in cuts)) == said(text)


@pytest.mark.parametrize("text", ["...", "?!", "123", "-"])
def test_what_has_no_words_claims_nothing(text: str) -> None:
    assert said(text) == text


@given(st.text(max_size=300))
def test_nothing_is_lost(text: str) -> None:
    out = said(text)
    assert (
        out == text.strip()
        or out.endswith((*CANNOT, *CANNOT_KEEP, *ONLY_TALK))
        or out.split() == text.split()
    )


@pytest.mark.parametrize("text", ["Rome is", "Because of", "The capital", "You can"])
def test_an_ordinary_answer_is_not_held_back(text: str) -> None:
    assert Honesty().push([text]) == [text]


def test_the_answer_ends_with_it() -> None:
    splitter = SentenceSplitter(first_phrase_words=3, pieces_are_tokens=True)
    answer = Answer(SpeechStream(splitter), may_call=True)
    pieces = (
        "Sure",
        ", I",
        "'ll feed",
        " the dog",
        " now",
        ".",
        " It",
        " is",
        " hungry",
        ".",
        " Yes",
    )
    chunks = [chunk for piece in pieces for chunk in answer.push(piece)]
    assert answer.ended
    rest, call = answer.finish()
    assert (" ".join(chunks + rest), call) == (CANNOT[0], "")

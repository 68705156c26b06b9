"""An answer is text for a voice or a call; never is a call spoken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.answer import Answer
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import SpeechStream

CALL = '{"name": "timer_set", "arguments": {"minutes": 5}}'


def answered(*pieces: str, may_call: bool = True) -> tuple[list[str], str]:
    """What is spoken, and the call."""
    splitter = SentenceSplitter(first_phrase_words=3, pieces_are_tokens=True)
    answer = Answer(SpeechStream(splitter), may_call=may_call)
    chunks = []
    for piece in pieces:
        chunks += answer.push(piece)
        if answer.ended:
            break
    rest, call = answer.finish()
    return chunks + rest, call


@given(st.lists(st.integers(0, len(CALL) + 2), max_size=8))
def test_a_call_is_a_call_however_it_is_cut_up(places: list[int]) -> None:
    text = f" {CALL}\n"
    ends = sorted(places)
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert answered(*pieces) == ([], CALL)
    assert answered(*pieces, may_call=False) == ([], "")


@given(st.integers(1, len(CALL) - 1))
def test_of_a_call_that_was_cut_off_nothing_is_spoken(end: int) -> None:
    assert answered(*CALL[:end]) == ([], "")
    assert answered(CALL[:end], " and more text. Yes.") == ([], "")


def test_text_is_spoken_as_it_comes() -> None:
    assert answered("  ", "It", " is", " Rome", ".", " Ok", "?") == (["It is Rome.", "Ok?"], "")
    assert answered("Say", " {", CALL, "}")[1] == ""
    assert answered() == ([], "")


def test_thoughts_and_code_are_not_spoken_and_an_answer_ends_with_its_role() -> None:
    assert answered("<th", "ink", ">Let me see. {", "</think", "> Rome", ".") == (["Rome."], "")
    assert answered("``", "`py\nx=1.\n", "`", "``", "Rome", ".") == (["Rome."], "")
    assert answered("Rome", ".", "\n", "User", ":", " And", " France", "?") == (["Rome."], "")
    assert answered("Rome.<|im_end|>", "So much", " more.")[0] == ["Rome."]

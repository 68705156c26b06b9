"""Guesses of the next tokens from the question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.lookup import DRAFT_TOKENS, draft

QUESTION = [10, 11, 12, 13, 14, 15]


def test_what_followed_two_tokens_is_guessed() -> None:
    assert draft([1, 11, 12], QUESTION, frozenset()) == [13, 14, 15]


def test_one_token_is_enough_only_if_it_says_enough() -> None:
    assert draft([1, 12], QUESTION, frozenset()) == []
    assert draft([1, 12], QUESTION, frozenset({12})) == [13, 14, 15]


def test_nothing_follows_the_end() -> None:
    assert draft([1, 15], QUESTION, frozenset({15})) == []
    assert draft([], QUESTION, frozenset(QUESTION)) == []
    assert draft([10], [], frozenset()) == []


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_a_guess_is_always_a_piece_of_the_question(history: list[int], question: list[int]) -> None:
    guess = draft(history, question, frozenset(range(6)))
    assert len(guess) <= DRAFT_TOKENS
    starts = range(len(question) - len(guess) + 1)
    assert any(question[start : start + len(guess)] == guess for start in starts)

"""The conversation within its bounds: what leaves is summarised, what was not played never told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.conductor.history import History, tokens
from appliance.messages import ChatMessage


def told(history: History) -> str:
    return " ".join(m.text for m in history.messages())


def filled(turns: int, most_turns: int = 4, most_tokens: int = 10_000) -> History:
    history = History(most_turns, most_tokens)
    for n in range(turns):
        history.remember(f"question {n}", f"answer {n}")
    return history


def test_half_of_it_leaves_at_once() -> None:
    history = filled(4)
    assert len(history.messages()) == 8
    history.remember("question 4", "answer 4")
    assert [m.text for m in history.messages()][:2] == ["question 3", "answer 3"]


def test_the_beginning_stays_while_it_grows() -> None:
    """Llm has read it; were it to change each turn, it would read everything again."""
    history = History(8, 10_000)
    changes, first = 0, None
    for n in range(40):
        history.remember(f"question {n}", f"answer {n}")
        changes += history.messages()[0] != first
        first = history.messages()[0]
    assert changes <= 40 / 4


def test_long_exchanges_leave_before_many() -> None:
    history = History(8, 200)
    for n in range(3):
        history.remember(f"question {n}", "word " * 60)
    assert len(history.messages()) == 2
    assert tokens(list(history.messages())) < 200


def test_the_newest_exchange_stays_however_long() -> None:
    history = History(8, 50)
    history.remember("tell me everything", "word " * 500)
    assert "tell me everything" in told(history)


def test_what_left_is_asked_for_and_told_as_a_summary() -> None:
    history = filled(5)
    asked = history.to_summarise()
    assert "question 0" in asked[-1].text
    assert "question 4" not in asked[-1].text
    history.summarised("  They talked\nabout zero. ")
    assert history.messages()[0] == ChatMessage(
        "system", "Earlier in this conversation: They talked about zero."
    )
    assert history.to_summarise() == ()


def test_a_summary_goes_into_the_next_one() -> None:
    history = filled(5)
    history.summarised("It began with zero.")
    for n in range(5, 9):
        history.remember(f"question {n}", f"answer {n}")
    assert "It began with zero." in history.to_summarise()[-1].text


def test_what_nobody_summarised_is_bounded() -> None:
    history = History(2, 300)
    for n in range(200):
        history.remember(f"question {n}", "word " * 30)
    assert tokens(list(history.to_summarise())) < 1_000


def test_forgotten_is_forgotten() -> None:
    history = filled(5)
    history.summarised("Something.")
    history.forget()
    assert not history
    assert history.messages() == ()
    assert history.to_summarise() == ()


@given(st.lists(st.tuples(st.text(max_size=400), st.text(max_size=400)), max_size=40))
def test_it_always_ends_with_the_newest_exchange(exchanges: list[tuple[str, str]]) -> None:
    history = History(6, 500)
    for question, answer in exchanges:
        history.remember(question, answer)
        assert [m.text for m in history.messages()[-2:]] == [question, answer]
        assert len(history.messages()) <= 13

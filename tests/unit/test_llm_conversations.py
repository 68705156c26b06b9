"""What was read of several conversations."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.conversations import Conversations, Read, in_common


def read(*tokens: int) -> Read:
    return Read(tokens, np.zeros(10 * len(tokens), np.uint8))


def test_what_is_set_aside_comes_back_once() -> None:
    conversations = Conversations()
    conversations.set_aside("local", read(1, 2))
    assert conversations.size_bytes == 20
    assert conversations.take("remote.1") is None
    taken = conversations.take("local")
    assert taken is not None
    assert taken.tokens == (1, 2)
    assert conversations.take("local") is None
    assert conversations.size_bytes == 0


def test_the_one_not_needed_for_longest_goes_first() -> None:
    conversations = Conversations(most=3)
    for name in ("a", "b", "a", "c"):  # with the one in the context there is room for two
        conversations.set_aside(name, read(1))
    assert conversations.take("b") is None
    assert conversations.take("a")
    assert conversations.take("c")


def test_others_are_forgotten() -> None:
    conversations = Conversations()
    for name in ("local", "remote.1"):
        conversations.set_aside(name, read(1))
    conversations.keep_only({"local"})
    assert conversations.take("remote.1") is None
    assert conversations.take("local")


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_what_texts_have_in_common(first: list[int], second: list[int]) -> None:
    count = in_common(first, second)
    assert first[:count] == second[:count]
    assert first[: count + 1] != second[: count + 1] or count == len(first) == len(second)

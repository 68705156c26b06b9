"""The language of an answer, and of its parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.speech_text.scripts import language_of, runs


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Rome is the capital.", "en"),
        ("罗马是意大利的首都。", "zh"),
        ("You say 你好 for hello.", "en"),
        ("我喜欢用 Python 写程序。", "zh"),
        ("打开WiFi。", "zh"),
        ("Café", "en"),
        ("42", "en"),
        ("", "en"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


def test_what_has_no_letters_is_in_the_language_asked_for() -> None:
    assert language_of("3.5", default="zh") == "zh"
    assert runs("3.5", default="zh") == [("zh", "3.5")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Rome is old.", ["en:Rome is old."]),
        ("You say 你好 for hello.", ["en:You say ", "zh:你好 ", "en:for hello."]),
        ("我喜欢用 Python 写程序。", ["zh:我喜欢用 Python 写程序。"]),
        (
            "The sentence 今天的天气非常好 means the weather is fine.",
            ["en:The sentence ", "zh:今天的天气非常好 ", "en:means the weather is fine."],
        ),
        (
            "他说 the weather is very nice today。",
            ["zh:他说 ", "en:the weather is very nice today。"],
        ),
        ("Hello there. 你好。", ["en:Hello there. ", "zh:你好。"]),
        ("你好", ["zh:你好"]),
    ],
)
def test_a_text_is_divided_where_its_language_changes(text: str, parts: list[str]) -> None:
    assert [f"{language}:{part}" for language, part in runs(text)] == parts


@given(st.text(st.sampled_from("ab 你好吗。.,5%é"), max_size=40))
def test_nothing_is_lost_and_neighbours_differ(text: str) -> None:
    parts = runs(text)
    assert "".join(part for _, part in parts) == text
    assert all(a[0] != b[0] for a, b in pairwise(parts))

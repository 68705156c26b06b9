"""Text that is meant to do harm: endless, hidden, or made to look like somebody else's words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mind_world import understandings

from appliance.mind.characters import visible
from appliance.mind.understanding.tokens import Token


@pytest.mark.parametrize(
    "text",
    [
        "提醒我" + "买一二三" * 90,
        "remind me to " + "every five " * 35,
        "提醒我明天" + "买5个3" * 90,
    ],
)
def test_an_endless_task_is_not_sought_in_every_part_of_the_sentence(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    understanding = understandings()["zh" if text.startswith("提") else "en"]
    calls = 0
    normal = understanding._normal

    def counted(heard: Sequence[Token]) -> str:
        nonlocal calls
        calls += 1
        return normal(heard)

    monkeypatch.setattr(understanding, "_normal", counted)
    understanding.understand(text[:400])
    assert calls < 2_000


def test_nothing_that_hides_comes_through() -> None:
    hidden = "\u202ea\u2066b\u00adc\u061cd\U000e0041e\ufefff\x1bg\u200bh\ud800i\u206aj"
    assert visible(hidden).split() == list("abcdefghij")
    assert visible("naïve 你好 👍🏽") == "naïve 你好 👍🏽"

"""Whose mouth says it: facts turned for speech, or quoted when in doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.mind.perspective import for_speech


@pytest.mark.parametrize(
    ("told", "spoken"),
    [
        ("my sister lives in Rome", "Your sister lives in Rome."),
        ("I'm allergic to peanuts", "You're allergic to peanuts."),
        ("I am a nurse and I was ill", "You are a nurse and you were ill."),
        ("I broke my left wrist in 2019", "You broke your left wrist in 2019."),
        ("we moved to our house in May", "You moved to your house in May."),
        ("the key is mine.", "The key is yours."),
        ("Mia is my niece", "Mia is your niece."),
        ("you promised me a song", "You said: you promised me a song"),
        ("我妹妹住在上海", "你妹妹住在上海。"),
        ("我们的狗叫旺财", "你们的狗叫旺财。"),
        ("你是我的朋友", "你说过：你是我的朋友"),
    ],
)
def test_spoken_to_whoever_told_it(told: str, spoken: str) -> None:
    assert for_speech(told) == spoken


@given(st.text(max_size=300))
def test_any_text_is_turned_without_fail(text: str) -> None:
    assert isinstance(for_speech(text), str)

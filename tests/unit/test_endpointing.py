"""How much silence ends a turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.conductor.endpointing import (
    MOST_MS,
    UNFINISHED_MS,
    Endpointing,
    EndpointingSettings,
    finished_odds,
    silence_needed_ms,
)
from appliance.conductor.words import is_unfinished

probabilities = st.one_of(st.none(), st.floats(0, 1))
pauses = st.lists(st.one_of(st.floats(0, 60_000), st.just(-1.0)), max_size=20)
settings = st.builds(
    EndpointingSettings,
    end_of_turn_ms=st.integers(100, 2000),
    fallback_ms=st.integers(200, 5000),
    threshold=st.floats(0.01, 0.99),
)


def endpointing(chosen: EndpointingSettings | None = None) -> Endpointing:
    chosen = chosen or EndpointingSettings()
    return Endpointing(
        end_of_turn_ms=chosen.end_of_turn_ms,
        fallback_ms=chosen.fallback_ms,
        threshold=chosen.threshold,
    )


def lived(chosen: EndpointingSettings, history: list[float]) -> Endpointing:
    """After a history of pauses in which the speaker went on; -1 is the end of a turn."""
    it = endpointing(chosen)
    for pause_ms in history:
        if pause_ms < 0:
            it.turn_over()
        else:
            it.spoke_on(pause_ms)
    return it


@given(settings, pauses, probabilities, probabilities)
def test_every_pause_ends(
    chosen: EndpointingSettings, history: list[float], sound: float | None, words: float | None
) -> None:
    needed = lived(chosen, history).silence_needed_ms(sound, words)
    assert min(chosen.end_of_turn_ms, chosen.fallback_ms) <= needed <= MOST_MS


@given(settings, pauses, st.floats(0, 1), st.floats(0, 1), probabilities)
def test_the_more_finished_it_sounds_the_sooner(
    chosen: EndpointingSettings, history: list[float], one: float, other: float, rest: float | None
) -> None:
    it = lived(chosen, history)
    less, more = sorted((one, other))
    assert it.silence_needed_ms(more, rest) <= it.silence_needed_ms(less, rest)
    assert it.silence_needed_ms(rest, more) <= it.silence_needed_ms(rest, less)


@given(settings, probabilities, probabilities, st.floats(0, 60_000))
def test_a_speaker_who_pauses_is_given_no_less_time(
    chosen: EndpointingSettings, sound: float | None, words: float | None, pause_ms: float
) -> None:
    it = endpointing(chosen)
    before = it.silence_needed_ms(sound, words)
    it.spoke_on(pause_ms)
    assert it.silence_needed_ms(sound, words) >= min(before, MOST_MS)


@pytest.mark.parametrize(
    ("sound", "words", "least", "most"),
    [
        (0.98, 0.9, 200, 200),  # finished by both
        (0.98, None, 200, 200),  # the words are not known yet
        (0.98, 0.01, 1600, 1600),  # "Can you tell me"
        (0.01, None, 1000, 1600),  # "I have a question about, um"
        (0.02, 0.95, 200, 200),  # the words are the better witness
        (None, None, 800, 800),
    ],
)
def test_what_it_asks_for(sound: float | None, words: float | None, least: int, most: int) -> None:
    assert least <= endpointing().silence_needed_ms(sound, words) <= most


def test_own_pauses_count_less_the_surer_it_is_and_fade() -> None:
    it = endpointing()
    it.spoke_on(1_000)
    unsure, sure = it.silence_needed_ms(0.9, 0.45), it.silence_needed_ms(0.98, 0.98)
    assert unsure >= 1_000 > sure > 200
    for _ in range(20):
        it.turn_over()
    assert it.silence_needed_ms(0.98, 0.98) == 200


@given(st.floats(0, 1), st.floats(0, 1))
def test_odds_are_finite_and_follow_the_words(sound: float, words: float) -> None:
    odds = finished_odds(sound, words)
    assert odds is not None
    assert abs(odds) < 20
    assert silence_needed_ms(odds, EndpointingSettings()) <= UNFINISHED_MS


def test_words_that_nobody_ends_with_are_waited_for_whatever_it_sounds_like() -> None:
    endpointing = Endpointing(end_of_turn_ms=200, fallback_ms=800, threshold=0.5)
    assert endpointing.silence_needed_ms(0.99, 0.9, unfinished=True) == 1_600
    assert endpointing.silence_needed_ms(None, None, unfinished=True) == 1_600
    assert endpointing.silence_needed_ms(0.99, 0.9) == 200


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("Tell me about the", True),
        ("Who wrote, um", True),
        ("Is it true that,", True),
        ("What is the capital of.", True),
        ("I'd like milk and", True),
        ("How do you say-", True),
        ("Where are you from?", False),
        ("What is it made of?", False),
        ("Set a timer for ten minutes.", False),
        ("What is the time", False),
        ("因为", True),
        ("", False),
        ("...", False),
    ],
)
def test_the_last_word_may_show_that_more_is_to_come(text: str, unfinished: bool) -> None:
    assert is_unfinished(text) is unfinished

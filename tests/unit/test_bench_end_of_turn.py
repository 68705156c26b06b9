"""What the end-of-turn bench makes of its pauses."""

from __future__ import annotations

import pytest

from appliance.bench.end_of_turn import AUDIBLE_MS, Pause, outcome, policies
from appliance.config import Config

NEVER = float("inf")


def inside(noticed_ms: float, *, sound: float = 0.9, words: float = 0.0) -> Pause:
    return Pause(inside=True, sound=sound, words=words, noticed_ms=noticed_ms)


def whole(*, sound: float = 0.9, words: float = 0.9) -> Pause:
    return Pause(inside=False, sound=sound, words=words, noticed_ms=NEVER)


def test_who_is_cut_off_and_who_waits() -> None:
    pauses = {
        "question": [whole(), whole(words=0.0)],
        "pause": [inside(AUDIBLE_MS), inside(900), inside(1_000), inside(1_100)],
        "torn": [],
    }
    result = outcome(lambda pause: 200 if (pause.words or 0) > 0.5 else 1_000, pauses)
    assert result["cut_off_pause_percent"] == 25  # only the one that outlasts the policy
    assert result["cut_off_torn_percent"] == 0
    assert result["delay_p50_ms"] == 600
    assert result["taken_within_300_ms_percent"] == 50


def test_nobody_is_cut_off_before_there_is_an_answer_to_hear() -> None:
    pauses = {
        "question": [whole()],
        "pause": [inside(AUDIBLE_MS)],
        "torn": [inside(AUDIBLE_MS + 1)],
    }
    result = outcome(lambda _: 0, pauses)
    assert (result["cut_off_pause_percent"], result["cut_off_torn_percent"]) == (0, 100)


@pytest.mark.parametrize(
    ("policy", "wait_ms"),
    [("silence_only", 800), ("sound_threshold", 200), ("words", 1_600), ("both", 1_600)],
)
def test_the_policies_differ_where_the_words_are_unfinished(policy: str, wait_ms: float) -> None:
    assert policies(Config())[policy](inside(900, sound=0.98, words=0.0)) == wait_ms

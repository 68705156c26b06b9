"""The sound of the turn so far."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ
from appliance.vad.turn_audio import HEARD_SAMPLES, TurnAudio

SECOND = RATE_HZ


def feed(turn: TurnAudio, first: int, last: int, *, far_end: bool = False) -> None:
    """Blocks whose samples are their own positions, from ``first`` to ``last`` (excluded)."""
    for position in range(first, last, BLOCK_SAMPLES):
        turn.add(position, ramp(position, position + BLOCK_SAMPLES), far_end_active=far_end)


def ramp(first: int, last: int) -> np.ndarray:
    return np.arange(first, last, dtype=np.float32)


def test_it_holds_the_turn_from_its_beginning() -> None:
    turn = TurnAudio()
    feed(turn, 0, 2 * SECOND)
    turn.begin(SECOND)
    assert np.array_equal(turn.so_far(), ramp(SECOND, 2 * SECOND))


@given(st.integers(1, 1200), st.integers(0, 1200))
def test_of_a_long_turn_it_holds_the_last_8_s(blocks: int, first_block: int) -> None:
    turn = TurnAudio()
    end = blocks * BLOCK_SAMPLES
    start = min(first_block * BLOCK_SAMPLES, end)
    feed(turn, 0, end)
    turn.begin(start)
    assert np.array_equal(turn.so_far(), ramp(max(start, end - HEARD_SAMPLES), end))


@pytest.mark.parametrize(
    ("silence_s", "far_end", "whole"), [(2, False, True), (4, False, False), (2, True, False)]
)
def test_a_turn_goes_on_over_a_pause(silence_s: int, far_end: bool, whole: bool) -> None:
    turn = TurnAudio()
    feed(turn, 0, 2 * SECOND)
    turn.begin(SECOND)
    turn.end(2 * SECOND)
    again = (2 + silence_s) * SECOND
    feed(turn, 2 * SECOND, again, far_end=far_end)
    turn.begin(again - BLOCK_SAMPLES)
    feed(turn, again, again + SECOND)
    begin = SECOND if whole else again - BLOCK_SAMPLES
    assert np.array_equal(turn.so_far(), ramp(begin, again + SECOND))


def test_speech_over_an_answer_goes_on_after_the_answer_is_cut() -> None:
    turn = TurnAudio()
    feed(turn, 0, SECOND)
    turn.begin(0)
    feed(turn, SECOND, 2 * SECOND, far_end=True)
    turn.end(2 * SECOND)
    feed(turn, 2 * SECOND, 3 * SECOND)
    turn.begin(3 * SECOND - BLOCK_SAMPLES)
    assert len(turn.so_far()) == 3 * SECOND


@pytest.mark.parametrize("lost_s", [1, 20])
def test_what_was_lost_is_silence(lost_s: int) -> None:
    turn = TurnAudio()
    feed(turn, 0, SECOND)
    turn.begin(0)
    again = (1 + lost_s) * SECOND
    feed(turn, again, again + SECOND)
    heard = turn.so_far()
    assert len(heard) == min(again + SECOND, HEARD_SAMPLES)
    assert np.array_equal(heard[-SECOND:], ramp(again, again + SECOND))
    assert not heard[-2 * SECOND : -SECOND].any()


def test_before_anything_there_is_nothing() -> None:
    assert len(TurnAudio().so_far()) == 0

"""The reflex: what raises an alarm, and how soon it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_SAMPLES
from appliance.vad.near_end import NearEndReflex

QUIET_DB, ECHO_DB, VOICE_DB = -80.0, -62.0, -40.0


def feed(
    reflex: NearEndReflex, blocks: list[tuple[float, float]], *, first: int = 0, far_end: bool
) -> list[int]:
    """Take blocks of (level, belief); give the numbers of those after which it was active."""
    active = []
    for number, (level_db, belief) in enumerate(blocks, first):
        reflex.take_block(number * BLOCK_SAMPLES, level_db, belief, far_end_active=far_end)
        if reflex.active:
            active.append(number)
    return active


def after_quiet() -> NearEndReflex:
    reflex = NearEndReflex()
    feed(reflex, [(QUIET_DB, 0.1)] * 100, far_end=True)
    return reflex


def test_sound_over_the_far_end_alarms_within_50_ms_and_is_over_300_ms_after_it() -> None:
    reflex = after_quiet()
    active = feed(reflex, [(VOICE_DB, 1.0)] * 10 + [(QUIET_DB, 0.2)] * 60, first=100, far_end=True)
    assert active[0] == 104
    assert reflex.onset == 100 * BLOCK_SAMPLES
    assert active[-1] == 109 + 29


@pytest.mark.parametrize(
    ("blocks", "far_end"),
    [
        ([(VOICE_DB, 1.0)] * 4, True),  # a click
        ([(VOICE_DB, 0.9)] * 50, True),  # may be an echo
        ([(QUIET_DB + 10, 1.0)] * 50, True),  # near the noise
        ([(VOICE_DB, 1.0)] * 50, False),  # nothing to duck, and any noise sounds so
    ],
)
def test_no_alarm(blocks: list[tuple[float, float]], far_end: bool) -> None:
    assert feed(after_quiet(), blocks, first=100, far_end=far_end) == []


def test_steady_noise_becomes_the_floor() -> None:
    reflex = after_quiet()
    active = feed(reflex, [(VOICE_DB, 1.0)] * 400, first=100, far_end=True)
    assert active[-1] < 100 + 200 + 30  # two seconds, and the hangover


@pytest.mark.parametrize(("probability", "alarmed"), [(0.5, True), (0.45, False)])
def test_a_frame_that_sounds_like_speech_alarms(probability: float, alarmed: bool) -> None:
    reflex = NearEndReflex()
    reflex.take_frame(512, 1024, probability)
    assert reflex.active is alarmed
    if alarmed:
        assert reflex.onset == 512


@given(
    st.lists(
        st.tuples(st.floats(-120, 0), st.floats(0, 1), st.floats(0, 1), st.booleans()),
        max_size=200,
    )
)
def test_every_alarm_ends(inputs: list[tuple[float, float, float, bool]]) -> None:
    reflex = NearEndReflex()
    for number, (level_db, belief, probability, far_end) in enumerate(inputs):
        position = number * BLOCK_SAMPLES
        reflex.take_block(position, level_db, belief, far_end_active=far_end)
        reflex.take_frame(position, position + BLOCK_SAMPLES, probability)
        if reflex.active:
            assert 0 <= reflex.onset <= position
    feed(reflex, [(QUIET_DB, 0.0)] * 31, first=len(inputs), far_end=True)
    assert not reflex.active

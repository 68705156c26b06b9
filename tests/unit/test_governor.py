"""A hot or full machine is spared, and not spared for ever."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from appliance.conductor.governor import HOT_C, SHORT_MB, Advice, Governor
from appliance.conductor.optimiser import Ladder, Optimiser

S = 1_000_000_000
LADDER = Ladder(asr_models=("asr",), llm_models=("large", "small", "tiny"), history_turns=(8,))


def test_a_machine_that_is_well_is_left_alone() -> None:
    governor = Governor()
    assert all(governor.step(8_000, 60.0, second * S) is None for second in range(0, 100, 10))


def test_heat_and_lack_of_memory_cost_a_step_and_time_to_show_it() -> None:
    for available_mb, hottest_c in ((8_000, HOT_C), (SHORT_MB - 1, None)):
        governor = Governor()
        advice = governor.step(available_mb, hottest_c, 0)
        assert advice is not None
        assert advice.direction == "down"
        assert governor.step(available_mb, hottest_c, 10 * S) is None
        assert governor.step(available_mb, hottest_c, 40 * S) is not None


def test_a_step_is_taken_back_after_two_calm_minutes() -> None:
    governor = Governor()
    governor.step(8_000, HOT_C, 0)
    assert governor.step(8_000, 70.0, 10 * S) is None
    assert governor.step(8_000, 70.0, 100 * S) is None
    advice = governor.step(8_000, 70.0, 131 * S)
    assert advice is not None
    assert advice.direction == "up"


def test_lukewarm_changes_nothing() -> None:
    governor = Governor()
    governor.step(8_000, HOT_C, 0)
    assert all(governor.step(8_000, 86.0, second * S) is None for second in range(40, 900, 10))


def test_the_language_model_goes_down_the_ladder_and_back() -> None:
    optimiser = Optimiser(LADDER, "local")
    models = []
    for direction in ("down", "down", "down", "up", "up", "up"):
        level = optimiser.spare(Advice(direction, "95 °C"), 0)
        models.append(level.llm_model if level else None)
    assert models == ["small", "tiny", None, "small", "large", None]


def test_why_is_told() -> None:
    level = Optimiser(LADDER, "local").spare(Advice("down", "95 °C"), 0)
    assert level is not None
    assert level.reason == "95 °C: small now"
    assert level.level == 1


@given(st.lists(st.tuples(st.floats(0, 16_000), st.none() | st.floats(-20, 130)), max_size=60))
def test_it_never_steps_faster_than_it_shows(looks: list[tuple[float, float | None]]) -> None:
    governor, downs = Governor(), []
    for second, (available_mb, hottest_c) in enumerate(looks):
        advice = governor.step(available_mb, hottest_c, 10 * second * S)
        if advice and advice.direction == "down":
            downs.append(10 * second)
    assert all(later - sooner >= 30 for sooner, later in itertools.pairwise(downs))

"""Arrays of microphones: presets, positions, plane waves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.geometry import (
    PRESETS,
    array_of,
    circle,
    explicit,
    input_channels,
    line,
    named,
    unknown,
)
from appliance.config import Config
from appliance.errors import ApplianceError


def test_a_circle_starts_at_x_and_goes_counter_clockwise() -> None:
    positions = circle(4, 0.032).positions_m
    np.testing.assert_allclose(positions[0], [0.032, 0, 0], atol=1e-12)
    np.testing.assert_allclose(positions[1], [0, 0.032, 0], atol=1e-12)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_presets_have_a_channel_for_each_microphone(name: str) -> None:
    array = named(name)
    assert array.name == name
    assert array.channels is not None
    assert len(array.channels) == len(array.positions_m)
    assert array.loopback_channel not in array.channels
    assert 0.03 < np.ptp(array.positions_m[:, 0]) < 0.2


def test_the_usb_array_needs_its_six_channels() -> None:
    array = named("respeaker-usb-4mic")
    assert array.check(6) == (1, 2, 3, 4)
    with pytest.raises(ApplianceError, match="needs 5 input channels, there are 1"):
        array.check(1)


@pytest.mark.parametrize(
    ("front_end", "configured", "opened"),
    [
        ({}, 0, 1),
        ({}, 2, 2),
        ({"array": "respeaker-usb-4mic"}, 0, 6),
        ({"array": "respeaker-linear-4mic"}, 0, 8),
        ({"array": "respeaker-2mic"}, 0, 2),
        ({"array": "circle:4:0.032"}, 0, 4),
        ({"array": "circle:4:0.032"}, 6, 6),
        ({"microphones_m": [[0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]]}, 0, 3),
    ],
)
def test_as_many_channels_are_opened_as_the_array_needs(
    front_end: dict[str, object], configured: int, opened: int
) -> None:
    config = Config.model_validate(
        {"audio": {"input_channels": configured}, "front_end": front_end}
    )
    assert input_channels(config) == opened
    assert len(array_of(config.front_end).check(opened)) <= opened


def test_unknown_takes_whatever_the_device_has() -> None:
    assert not unknown().known
    assert unknown().check(2) == (0, 1)


@pytest.mark.parametrize(
    "text", ["", "circle", "circle:x:1", "circle:4:0", "line:1:0.1", "round:4:1"]
)
def test_nonsense_is_refused_with_one_line(text: str) -> None:
    with pytest.raises(ApplianceError) as caught:
        named(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("positions", "channels"),
    [
        ([[0, 0]], None),
        ([[0, 0], [0, 0]], None),
        ([[0, 0], [30, 0]], None),
        ([[0, 0], [float("nan"), 0]], None),
        ([[0, 0], [1]], None),
        ([[0, 0, 0], [0, 0, 1]], None),
        ([[0, 0], [0.1, 0]], [0]),
    ],
)
def test_impossible_positions_are_refused(
    positions: list[list[float]], channels: list[int] | None
) -> None:
    with pytest.raises(ApplianceError):
        explicit(positions, channels)


def test_only_a_line_is_ambiguous() -> None:
    assert line(4, 0.05).front_back_ambiguous
    assert circle(2, 0.03).front_back_ambiguous
    assert not circle(3, 0.03).front_back_ambiguous


@given(st.floats(0, 360), st.floats(0, 360))
def test_folding_keeps_what_a_line_hears(turned_deg: float, azimuth_deg: float) -> None:
    turn = np.radians(turned_deg)
    array = explicit([[0, 0], [0.05 * np.cos(turn), 0.05 * np.sin(turn)]])
    folded = array.fold(azimuth_deg)
    assert 0 <= (folded - array.axis_deg) % 360 <= 180 + 1e-3
    heard = array.steering(np.array([azimuth_deg, folded]), np.array([1000.0]))
    np.testing.assert_allclose(heard[0], heard[1], atol=1e-3)


def test_a_wave_reaches_the_nearest_microphone_first() -> None:
    array = line(2, 0.343)
    toward_right = array.steering(np.array([0.0]), np.array([100.0]))[0, :, 0]
    # 1 ms apart, a tenth of a period: microphone 1, at +x, leads.
    assert np.angle(toward_right[1] / toward_right[0]) == pytest.approx(2 * np.pi / 10, abs=1e-5)

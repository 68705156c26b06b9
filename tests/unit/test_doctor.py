"""What the doctor says of the configured array."""

from __future__ import annotations

import pytest

from appliance.config import Config
from appliance.doctor import Finding, examine


def findings(**sections: dict[str, object]) -> list[Finding]:
    config = Config.model_validate({"audio": {"loopback": "always"}} | sections)
    return [f for f in examine(config) if f.check in ("array", "devices")]


@pytest.mark.parametrize(
    ("array", "detail"),
    [
        ("none", "channel(s) 0 of 1"),
        ("respeaker-usb-4mic", "channel(s) 1, 2, 3, 4 of 6"),
        ("line:2:0.05", "channel(s) 0, 1 of 2"),
    ],
)
def test_it_says_which_channels_are_microphones(array: str, detail: str) -> None:
    (found, *_) = findings(front_end={"array": array})
    assert (found.check, found.verdict) == ("array", "ok")
    assert array in found.detail
    assert detail in found.detail


def test_an_array_that_does_not_fit_is_an_error() -> None:
    (found,) = findings(
        audio={"loopback": "always", "input_channels": 2},
        front_end={"array": "respeaker-usb-4mic"},
    )
    assert found.verdict == "error"
    assert "needs 5 input channels" in found.detail

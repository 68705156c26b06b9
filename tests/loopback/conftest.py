"""One appliance for all tests of this folder that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.bench.rig import Rig, private_appliance

SMALL = {"APPLIANCE_LLM__MODEL": "qwen2.5-coder-0.5b"}


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """A running appliance on virtual devices, with the small language model."""
    with private_appliance(SMALL) as running:
        yield running

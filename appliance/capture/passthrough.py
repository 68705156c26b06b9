"""The shape of the front-end without its work: the first microphone as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from appliance.audio.blocks import Samples


@dataclass(frozen=True)
class FrontEndBlock:
    """One block for the mic ring."""

    samples: Samples
    direction_deg: float | None = None
    far_end_active: bool = False


class FrontEnd:
    """Takes blocks (channels, 160), gives blocks (160,)."""

    latency_samples = 0
    bypass: frozenset[str] = frozenset()

    def process(self, mic: Samples, far: Samples | None) -> FrontEndBlock:
        """The mean of the channels."""
        return FrontEndBlock(mic.mean(axis=0), None, far is not None)

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Nothing."""

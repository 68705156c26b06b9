"""What the front-end's bench compares: the whole chain, the chain without a stage, the baselines.

The baselines are given the reference as an ideal aligner would give it, and microphone 0; the
chain is given what it would get from the devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance import config as configuration
from appliance.audio.blocks import BLOCK_SAMPLES, Samples
from appliance.bench.nlms import nlms
from appliance.bench.scenes import Scene
from appliance.capture.chain import FrontEnd, FrontEndBlock
from appliance.capture.speex import SpeexEchoCanceller, SpeexPreprocessor


class Processor(Protocol):
    """Makes the user's voice of what the microphones hear. One per recording."""

    def process(self, mic: Samples, far: Samples) -> Samples:
        """Take the microphones (channels, n) and the far-end (n,); give (n,) without latency."""
        ...


class SpeexChain:
    """libspeexdsp as its users combine it: canceller, then noise and residual echo suppressor."""

    def __init__(self, tail_ms: float = 200.0) -> None:
        self._canceller = SpeexEchoCanceller(1, tail_ms)
        self._suppressor = SpeexPreprocessor(self._canceller)

    def process(self, mic: Samples, far: Samples) -> Samples:
        """See `Processor`."""
        return through_blocks(
            lambda mic, far: self._suppressor.process(self._canceller.process(mic, far)[0]),
            *(mic[:1], far),
            latency_samples=SpeexPreprocessor.LATENCY_SAMPLES,
        )


class Nlms:
    """The textbook canceller, nothing after it."""

    def process(self, mic: Samples, far: Samples) -> Samples:
        """See `Processor`."""
        return nlms(mic[0], far)


class Nothing:
    """Microphone 0 as it is."""

    def process(self, mic: Samples, far: Samples) -> Samples:
        """See `Processor`."""
        first: Samples = mic[0]
        return first


class Chain:
    """The appliance's front-end as configured, with the scenes' array.

    Args:
        channels: microphones.
        without: stages that are bypassed.
        changes: of the settings.
    """

    def __init__(
        self,
        channels: int = 4,
        without: frozenset[str] = frozenset(),
        changes: Mapping[str, object] | None = None,
    ) -> None:
        settings = configuration.FrontEndConfig.model_validate(
            {"array": f"circle:{channels}:0.032", **(changes or {})}
        )
        models = configuration.load().models_path
        self.front_end = FrontEnd(settings, channels, models_path=models)
        self.front_end.bypass = without
        self.blocks: list[FrontEndBlock] = []
        """Everything that came out, one for each block that went in."""
        self.block_ms: list[float] = []
        """How long each took."""

    def start_from(self, other: Chain) -> None:
        """Warm start from what another one has learnt."""
        self.front_end.restore(other.front_end.state())

    def process(self, mic: Samples, far: Samples) -> Samples:
        """See `Processor`."""
        latency = self.front_end.latency_samples
        return through_blocks(self._process, mic, far, latency_samples=latency)

    def _process(self, mic: Samples, far: Samples) -> Samples:
        started_ns = time.perf_counter_ns()
        block = self.front_end.process(mic, far)
        self.block_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        self.blocks.append(block)
        samples: Samples = block.samples
        return samples


@dataclass(frozen=True)
class Candidate:
    """A processor by name."""

    name: str
    create: Callable[[], Processor]
    aligned: bool = False
    """Whether it is given the reference as an ideal aligner would give it."""

    def run(self, scene: Scene, processor: Processor | None = None) -> Samples:
        """What a new processor, or this one, makes of a scene, (n,)."""
        far = scene.far_aligned if self.aligned else scene.far
        return (processor or self.create()).process(scene.mic, far)


SPEEX = Candidate("speex", SpeexChain, aligned=True)
NLMS = Candidate("nlms", Nlms, aligned=True)
NOTHING = Candidate("microphone", Nothing)


def chain(name: str = "chain", *, without: Sequence[str] = (), **changes: object) -> Candidate:
    """The front-end, without some stages or with some settings changed."""
    return Candidate(name, lambda: Chain(without=frozenset(without), changes=changes))


def through_blocks(
    process: Callable[[Samples, Samples], Samples],
    mic: Samples,
    far: Samples,
    *,
    latency_samples: int,
) -> Samples:
    """Feed a recording (channels, n) and its far-end (n,) block by block; give (n,) aligned.

    Args:
        process: takes (channels, 160) and (160,), gives (160,).
        mic: the recording.
        far: what was played.
        latency_samples: by which the output lags.
    """
    n = mic.shape[1]
    blocks = -(-(n + latency_samples) // BLOCK_SAMPLES)
    padding = blocks * BLOCK_SAMPLES - n
    mic = np.pad(mic, ((0, 0), (0, padding)))
    far = np.pad(far, (0, padding))
    output = np.empty(blocks * BLOCK_SAMPLES, np.float32)
    for start in range(0, len(output), BLOCK_SAMPLES):
        stop = start + BLOCK_SAMPLES
        block = np.ascontiguousarray(mic[:, start:stop])
        output[start:stop] = process(block, far[start:stop])
    return output[latency_samples : latency_samples + n]

"""Noise suppression on the one channel that the beamformer leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from appliance.audio.blocks import Samples
from appliance.capture.speex import SpeexPreprocessor

_FORGETTING = 10 ** (-0.001)
_QUIET_ROOM_DB = 46.0
"""Loudest speech above the floor of the noise from which on no suppression is needed ..."""
_TRANSITION_DB = 10.0
"""... and over how much less it comes in."""

EngineName = Literal["speex", "gtcrn"]


class NoiseSuppressor(Protocol):
    """Lowers noise in one stream, block by block."""

    @property
    def latency_samples(self) -> int:
        """How much later than its input the output is."""
        ...

    def process(self, block: Samples) -> Samples:
        """Return the stream with less noise, `latency_samples` late; shapes (160,), finite."""
        ...


class SpeexSuppressor:
    """The suppressor of libspeexdsp, modest, so that a recogniser hears better and never worse.

    Needs no model, takes 25 µs of CPU per block, and is 160 samples (10 ms) late.

    Args:
        depth_db: how far noise is lowered, at most (positive).

    Raises:
        ApplianceError: libspeexdsp is not installed.
    """

    latency_samples = SpeexPreprocessor.LATENCY_SAMPLES

    def __init__(self, depth_db: int = 15) -> None:
        self._preprocessor = SpeexPreprocessor(noise_suppress_db=-depth_db)
        self.process: Callable[[Samples], Samples] = self._preprocessor.process


class NoiseGauge:
    """How much noise suppression a stream needs: 0 in a quiet room, 1 where it is noisy.

    A suppressor distorts speech a little, always; where there is next to no noise that is all it
    does (10 dB of signal-to-distortion ratio in the chain's benchmarks). The loudest speech counts,
    forgotten by 1 dB per second.
    """

    def __init__(self) -> None:
        self._speech = 0.0
        self.need = 0.0
        """0 to 1."""

    def process(self, noise: float, clean: float) -> None:
        """Take the power of the noise, as far as it is known, and of a block."""
        self._speech = max(clean, self._speech * _FORGETTING)
        snr_db = 10 * math.log10((self._speech + 1e-9) / (noise + 1e-9))
        self.need = min(1.0, max(0.0, (_QUIET_ROOM_DB - snr_db) / _TRANSITION_DB))


def create_suppressor(
    engine: EngineName, *, depth_db: int, models_path: Path, dry_mix: float
) -> NoiseSuppressor:
    """Return the named engine.

    Args:
        engine: `speex`, or `gtcrn`, which needs a model.
        depth_db: of speex, see `SpeexSuppressor`.
        models_path: the models folder.
        dry_mix: of GTCRN, see `GtcrnSuppressor`.

    Raises:
        ApplianceError: the library or the model is missing or unusable.
    """
    if engine == "speex":
        return SpeexSuppressor(depth_db)
    from appliance.capture.gtcrn import MODEL_NAME, GtcrnSuppressor
    from appliance.models.store import ensure_model

    return GtcrnSuppressor(ensure_model(MODEL_NAME, root=models_path), dry_mix=dry_mix)

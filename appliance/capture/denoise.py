"""Noise suppression on the one channel that the beamformer leaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from appliance.audio.blocks import Samples
from appliance.capture.speex import SpeexPreprocessor

_QUIET_ROOM_DB = 35.0
"""Loudest speech above noise from which on no suppression is needed ..."""
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
    does (10 dB of signal-to-distortion ratio in the chain's benchmarks). The noise is the lowest
    level of the last two seconds, the speech the highest, which is forgotten by 1 dB per second.
    """

    def __init__(self) -> None:
        self._smooth = 0.0
        self._lowest: deque[float] = deque([np.inf], maxlen=8)
        self._blocks = 0
        self._speech = 0.0
        self.need = 0.0
        """0 to 1."""

    def process(self, heard: float, clean: float) -> None:
        """Take the power of a block before and after echo suppression."""
        self._smooth += 0.2 * (heard - self._smooth)
        self._speech = max(clean, self._speech * 0.9977)
        self._lowest[-1] = min(self._lowest[-1], self._smooth)
        self._blocks += 1
        if self._blocks % 25 == 0:
            noise = min(self._lowest) * 2.0  # the minimum lies about 3 dB below the mean
            snr_db = 10 * np.log10((self._speech + 1e-12) / (noise + 1e-12))
            self.need = float(np.clip((_QUIET_ROOM_DB - snr_db) / _TRANSITION_DB, 0, 1))
            self._lowest.append(np.inf)


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

"""A whole text as one stretch of samples, from any of the appliance's voices."""

from __future__ import annotations

import numpy as np

from appliance.audio.blocks import Samples
from appliance.tts.engine import TtsEngine


def render(engine: TtsEngine, text: str) -> Samples:
    """Everything that the engine says of a text, shape (n,), at its rate.

    Raises:
        TtsError: the engine failed.
    """
    pieces = [piece.samples for piece in engine.synthesise(text, cancelled=lambda: False)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

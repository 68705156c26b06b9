"""Was the appliance called by its name: microWakeWord through `pymicro-wakeword`.

The models (okay_nabu and others) ship inside that package. A model judges every 30 ms, its
probability is the mean of the last five judgements.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from appliance.audio.blocks import BLOCK_MS, Samples
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import Block
from appliance.messages import WakeWord

_FULL_SCALE = 32767
_SILENCE_AFTER_NS = 1_000_000_000
"""One call is told once."""
_BELIEF_SMOOTHING = 0.02
"""Half a second: the length of the word."""
_HEARD = 0.5


class WakeWordModel(Protocol):
    """Listens to one stream for one word."""

    name: str
    threshold: float
    """From which probability on the word was said, as its makers advise."""
    window_ms: int
    """So long ago the word ended when it is found, about."""

    def take(self, samples: Samples) -> float:
        """Take a block (160,) at 16 kHz; return the probability that the word was just said."""
        ...


class MicroWakeWordModel:
    """One of the models of `pymicro-wakeword`: 0.07 ms of CPU per block of 10 ms."""

    def __init__(self, name: str) -> None:
        """Load the model called ``name`` (5 ms).

        Raises:
            ApplianceError: the package is not installed, or has no such model.
        """
        try:
            from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model
        except (ImportError, OSError) as error:
            raise ApplianceError(
                f"The wake word {name!r} needs the package pymicro-wakeword ({error}): "
                'install it, or set [vad] wake_word = ""'
            ) from error
        known = [model.value for model in Model]
        if name not in known:
            raise ApplianceError(
                f"There is no wake word {name!r}; set [vad] wake_word to one of: {', '.join(known)}"
            )
        self.name = name
        try:
            self._model = MicroWakeWord.from_builtin(Model(name))
        except (OSError, ValueError, RuntimeError) as error:
            raise ApplianceError(
                f"The wake word {name!r} cannot be loaded ({error}): install pymicro-wakeword again"
            ) from error
        self._features = MicroWakeWordFeatures()
        self.threshold = float(self._model.probability_cutoff)
        self.window_ms = self._model.sliding_window_size * self._model.stride * BLOCK_MS
        self._probability = 0.0

    def take(self, samples: Samples) -> float:
        """See `WakeWordModel`."""
        pcm = np.clip(samples * _FULL_SCALE, -_FULL_SCALE, _FULL_SCALE).astype("<i2").tobytes()
        for features in self._features.process_streaming(pcm):
            self._probability = float(self._model.process_streaming_prob(features) or 0.0)
        return self._probability


class WakeWordListener:
    """Makes a message of each call in one session's stream.

    Args:
        session_id: of the stream.
        model: which word.
        threshold: probability from which it counts; 0 is the model's own.
    """

    def __init__(self, session_id: str, model: WakeWordModel, threshold: float = 0.0) -> None:
        self._session_id = session_id
        self._model = model
        self._threshold = threshold or model.threshold
        self._deaf_until_ns = 0
        self._belief = 1.0

    def take(self, block: Block) -> WakeWord | None:
        """Take the next block; return the call that it completes.

        What is left of the appliance's own voice does not call it.
        """
        self._belief += _BELIEF_SMOOTHING * (block.near_end - self._belief)
        probability = self._model.take(block.samples)
        if (
            probability <= self._threshold
            or self._belief < _HEARD
            or block.captured_ns < self._deaf_until_ns
        ):
            return None
        self._deaf_until_ns = block.captured_ns + _SILENCE_AFTER_NS
        return WakeWord(
            session_id=self._session_id,
            name=self._model.name,
            end_ns=block.captured_ns + (BLOCK_MS - self._model.window_ms) * 1_000_000,
            probability=probability,
        )

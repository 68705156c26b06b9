"""Has the speaker finished, by the sound of the last words: smart-turn through ONNX Runtime.

The network (Whisper tiny's encoder and a small head) was trained on the last 8 s of turns and of
pauses within turns, in 23 languages. Its input is made as in Pipecat's
``local_smart_turn_v3.py`` (BSD-2): zeros before the sound, unit variance, Whisper's features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from appliance.asr.features import FFT_SAMPLES, HOP_SAMPLES, log_mel
from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError
from appliance.vad.turn_audio import HEARD_SAMPLES

MODEL_NAME = "smart-turn"
MODEL_FILE = "smart-turn-v3.2-cpu.onnx"
_FRAMES = HEARD_SAMPLES // HOP_SAMPLES
_VARIANCE_FLOOR = 1e-7


class EndOfTurnModel(Protocol):
    """Judges a pause by the sound before it."""

    def probability(self, samples: Samples) -> float:
        """Return the probability in [0, 1] that the turn is complete.

        Args:
            samples: the turn so far with the silence after it, (n,) at 16 kHz; the last 8 s count.
        """
        ...


class SmartTurn:
    """smart-turn v3.2 on one thread: 40 ms of CPU per pause."""

    def __init__(self, model_dir: Path) -> None:
        """Load the network from ``model_dir`` (130 ms) and run it once.

        Raises:
            ApplianceError: the file is missing, corrupt or another model.
        """
        import onnxruntime

        path = model_dir / MODEL_FILE
        repair = (
            f"fetch it again with: appliance models fetch {MODEL_NAME}, "
            'or set [vad] end_of_turn = "off"'
        )
        if not path.is_file():
            raise ApplianceError(f"The end-of-turn model {path} is missing; {repair}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            self.probability(np.zeros(HEARD_SAMPLES, np.float32))
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise ApplianceError(
                f"The end-of-turn model {path} cannot be used ({type(error).__name__}); {repair}"
            ) from error

    def probability(self, samples: Samples) -> float:
        """See `EndOfTurnModel`."""
        (output,) = self._session.run(None, {"input_features": features(samples)})
        return float(output[0, 0])


def features(samples: Samples) -> Samples:
    """The network's input (1, 80, 800) for the last 8 s of ``samples`` (n,)."""
    heard = np.zeros(HEARD_SAMPLES, np.float32)
    last = samples[-HEARD_SAMPLES:]
    heard[HEARD_SAMPLES - len(last) :] = last
    heard -= heard.mean()
    heard /= np.sqrt(heard.var() + _VARIANCE_FLOOR)
    mirrored = heard[-FFT_SAMPLES // 2 - 1 : -1][::-1]  # the reflection that Whisper ends with
    frames = log_mel(np.concatenate([heard, mirrored]), frames=_FRAMES + 1)
    return np.ascontiguousarray(frames[:, :, :_FRAMES])

"""How likely is it that a 32 ms frame holds speech: Silero VAD through ONNX Runtime.

The network is recurrent: it carries a state from frame to frame and sees the last 4 ms of the
frame before. A detector therefore belongs to exactly one stream and is fed every frame in order;
detectors for several streams share the network.
Source: https://github.com/snakers4/silero-vad (MIT), ``OnnxWrapper`` in ``utils_vad.py``.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.errors import ApplianceError

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 512
"""One frame, 32 ms: the only length the model was trained for at 16 kHz."""
CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 1, 128)
MODEL_FILE = "silero_vad.onnx"


class VoiceDetector(Protocol):
    """Says for each frame of one stream how likely it holds speech."""

    def probability(self, frame: NDArray[np.float32]) -> float:
        """Return the probability of speech in [0, 1] in ``frame`` (512 samples at 16 kHz)."""
        ...

    def reset(self) -> None:
        """Forget the stream: the next frame is the first of another one."""
        ...


class SileroDetector:
    """Silero VAD (v5 and v6 share the interface) on one thread: 0.14 ms of CPU per frame."""

    def __init__(self, model_dir: Path) -> None:
        """Load ``silero_vad.onnx`` from ``model_dir`` (35 ms) and run it once.

        Raises:
            ApplianceError: the file is missing, corrupt or another model.
        """
        import onnxruntime

        path = model_dir / MODEL_FILE
        repair = f"fetch it again with: appliance models fetch {model_dir.name}"
        if not path.is_file():
            raise ApplianceError(f"The voice detection model {path} is missing; {repair}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a second thread costs more than such a small net gains
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._input = np.zeros((1, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        self._state = np.zeros(_STATE_SHAPE, np.float32)
        self._feed = {
            "input": self._input,
            "state": self._state,
            "sr": np.array(SAMPLE_RATE_HZ, np.int64),
        }
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            self.probability(np.zeros(FRAME_SAMPLES, np.float32))
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise ApplianceError(
                f"The voice detection model {path} cannot be used "
                f"({type(error).__name__}); {repair}"
            ) from error
        self.reset()

    def for_another_stream(self) -> SileroDetector:
        """Return a detector that has heard nothing, on the same network."""
        other = copy(self)
        other._input = np.zeros_like(self._input)
        other._feed = {**self._feed, "input": other._input}
        other.reset()
        return other

    def probability(self, frame: NDArray[np.float32]) -> float:
        """Return the probability of speech in [0, 1] in ``frame`` (512 samples at 16 kHz)."""
        if frame.shape != (FRAME_SAMPLES,):
            raise ValueError(f"a frame has {FRAME_SAMPLES} samples, not shape {frame.shape}")
        self._input[0, :CONTEXT_SAMPLES] = self._input[0, -CONTEXT_SAMPLES:]
        self._input[0, CONTEXT_SAMPLES:] = frame
        probability, self._feed["state"] = self._session.run(None, self._feed)
        return float(probability[0, 0])

    def reset(self) -> None:
        """Forget the stream: the next frame is the first of another one."""
        self._input.fill(0.0)
        self._feed["state"] = np.zeros(_STATE_SHAPE, np.float32)

"""A VITS voice in ONNX, rendered a stretch at a time.

Two thirds of the time of a sentence goes into its last part, the vocoder (HiFi-GAN), which sees no
further than 11 frames to either side. So the model is cut in two in front of it: the first part
runs once for a sentence, the vocoder for one stretch after the other, with exactly the same result,
and the first stretch can be heard long before the rest is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from appliance.tts.engine import Audio
from appliance.tts.onnx_split import OnnxGraph

_OUTPUT = "output"
_STRETCHES = (24, 48, 96)
"""Frames of the vocoder's stretches, the last again and again. 24 are 280 ms: enough to play while
the next one is made, on a busy machine too."""
_SHORTEST = 12
"""A rest of fewer frames is no stretch of its own."""
_CONTEXT = 12
"""Frames on either side of a stretch that the vocoder has to see."""


@dataclass(frozen=True)
class Stretch:
    """The next part of a sentence's audio."""

    samples: Audio
    last: bool
    id_ends: npt.NDArray[np.int64] | None
    """Where each id of the sentence ends, in samples from the sentence's start; None if the model
    does not tell."""


class VitsModel:
    """The sessions of one voice.

    Args:
        path: a model as Piper exports it.
        n_threads: of the inference.

    Raises:
        Exception: it is damaged. Those of the runtime share no other base.
    """

    def __init__(self, path: Path, n_threads: int) -> None:
        graph = OnnxGraph(path.read_bytes())
        latent, durations = graph.input_of("dec.conv_pre.weight"), graph.output_of("Ceil")
        self._vocoder: ort.InferenceSession | None = None
        if latent and durations and not graph.inputs_of([_OUTPUT], [latent]):
            self._latent = latent
            self._vocoder = _session_of(graph.part([_OUTPUT], [latent]), n_threads)
            self.front = _session_of(graph.part([latent, durations]), n_threads)
        else:  # of another make: it renders whole sentences
            self.front = _session(str(path), n_threads)

    def render(self, inputs: dict[str, np.ndarray], options: ort.RunOptions) -> Iterator[Stretch]:
        """Speak one sentence.

        Args:
            inputs: of the model, by name.
            options: by which it can be terminated.

        Raises:
            Exception: the inference failed or was terminated.
        """
        outputs = self.front.run(None, inputs, options)
        if self._vocoder is None:
            yield Stretch(_mono(outputs[0]), last=True, id_ends=None)
            return
        latent, durations = outputs
        n_frames = latent.shape[2]
        end = 0
        for length in chain(_STRETCHES, repeat(_STRETCHES[-1])):
            start, end = end, end + length
            if n_frames - end < _SHORTEST:
                end = n_frames
            first = max(0, start - _CONTEXT)
            seen = latent[:, :, first : end + _CONTEXT]
            samples = _mono(self._vocoder.run(None, {self._latent: seen}, options)[0])
            hop = samples.size // seen.shape[2]
            yield Stretch(
                samples[(start - first) * hop : (end - first) * hop],
                last=end == n_frames,
                id_ends=np.cumsum(durations.reshape(-1)).astype(np.int64) * hop,
            )
            if end == n_frames:
                return


def _mono(audio: npt.NDArray[np.float32]) -> Audio:
    return np.ascontiguousarray(audio, dtype=np.float32).reshape(-1)


def _session_of(model: bytes, n_threads: int) -> ort.InferenceSession:
    """From memory; a session that is given bytes would keep them as long as it lives."""
    descriptor = os.memfd_create("voice", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(model)
        file.flush()
        return _session(f"/proc/self/fd/{descriptor}", n_threads)


def _session(path: str, n_threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Without graph optimisation a voice loads in a third of the time and speaks just as fast
    # (docs/decisions/0006-voice.md).
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    # Waiting threads must not take the core from the audio callback.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps what the longest sentence ever needed: 320 MB after 10 s of speech, 650 MB
    # after 16 s. Without it the process stays near 150 MB, for a tenth more CPU time.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # errors arrive as exceptions; stderr stays quiet
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

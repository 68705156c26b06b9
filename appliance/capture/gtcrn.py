"""GTCRN: a noise-suppressing network of 48 thousand parameters, through ONNX Runtime.

X. Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources",
ICASSP 2024; https://github.com/Xiaobin-Rong/gtcrn (MIT). The network sees one frame of a
short-time Fourier transform at a time and returns it masked; what it remembers of earlier frames
is passed in and out as three caches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, Samples
from appliance.errors import ApplianceError

MODEL_NAME = "gtcrn"
MODEL_FILE = "gtcrn_simple.onnx"

_WINDOW_SAMPLES = 512
_HOP_SAMPLES = 256
_CACHES = {
    "conv_cache": (2, 1, 16, 16, 33),
    "tra_cache": (2, 3, 1, 1, 16),
    "inter_cache": (2, 1, 33, 16),
}
# Blocks of 160 and hops of 256 drift by multiples of 32: so many samples wait in the worst case.
_WAITING_SAMPLES = _HOP_SAMPLES - 32


class GtcrnSuppressor:
    """GTCRN on one thread, 480 samples (30 ms) late.

    A frame takes 0.75 ms of CPU and comes every 16 ms: 0.5 ms per block on average.

    Args:
        model_dir: folder with `gtcrn_simple.onnx`.
        dry_mix: share of the untouched signal in the output, 0 to 1: it bounds how far anything
            is lowered (0.12: 18 dB), and so what a mistake of the network costs the recogniser.

    Raises:
        ApplianceError: the file is missing, corrupt or another model.
    """

    latency_samples = _HOP_SAMPLES + _WAITING_SAMPLES

    def __init__(self, model_dir: Path, *, dry_mix: float = 0.12) -> None:
        import onnxruntime

        path = model_dir / MODEL_FILE
        repair = f"fetch it again with: appliance models fetch {MODEL_NAME}"
        if not path.is_file():
            raise ApplianceError(f"The noise suppression model {path} is missing; {repair}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._wet, self._dry = np.float32(1 - dry_mix), np.float32(dry_mix)
        phase = np.arange(_WINDOW_SAMPLES) * (np.pi / _WINDOW_SAMPLES)
        self._window = np.sin(phase).astype(np.float32)  # the square root of a periodic Hann window
        self._frame = np.zeros((1, _WINDOW_SAMPLES // 2 + 1, 1, 2), np.float32)
        self._spectrum = self._frame.view(np.complex64)[0, :, 0, 0]
        self._feed: dict[str, NDArray[np.float32]] = {"mix": self._frame}
        self.reset()
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            self._enhance()
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise ApplianceError(
                f"The noise suppression model {path} cannot be used "
                f"({type(error).__name__}); {repair}"
            ) from error
        self.reset()

    def process(self, block: Samples) -> Samples:
        """Return the stream with less noise, `latency_samples` late; shapes (160,), finite."""
        self._input[self._filled : self._filled + BLOCK_SAMPLES] = block
        self._filled += BLOCK_SAMPLES
        if self._filled >= _WINDOW_SAMPLES:
            self._filter_frame()
            self._input[:-_HOP_SAMPLES] = self._input[_HOP_SAMPLES:].copy()
            self._filled -= _HOP_SAMPLES
        result: Samples = self._output[:BLOCK_SAMPLES].copy()
        self._output[:-BLOCK_SAMPLES] = self._output[BLOCK_SAMPLES:].copy()
        self._ready -= BLOCK_SAMPLES
        return result

    def reset(self) -> None:
        """Forget the stream: the next block is the first of another one."""
        self._input = np.zeros(_WINDOW_SAMPLES + BLOCK_SAMPLES, np.float32)
        self._filled = _HOP_SAMPLES
        self._output = np.zeros(_WINDOW_SAMPLES + BLOCK_SAMPLES, np.float32)
        self._ready = _WAITING_SAMPLES
        self._overlap = np.zeros(_HOP_SAMPLES, np.float32)
        self._forget()

    def _forget(self) -> None:
        self._feed.update((name, np.zeros(shape, np.float32)) for name, shape in _CACHES.items())

    def _filter_frame(self) -> None:
        self._spectrum[:] = scipy.fft.rfft(self._input[:_WINDOW_SAMPLES] * self._window)
        enhanced = self._enhance()
        if not np.isfinite(enhanced).all():
            self._forget()  # what is remembered would spoil every frame to come
            enhanced = self._spectrum
        mixed = self._wet * enhanced + self._dry * self._spectrum
        frame = scipy.fft.irfft(mixed, _WINDOW_SAMPLES) * self._window
        done = self._output[self._ready : self._ready + _HOP_SAMPLES]
        np.add(self._overlap, frame[:_HOP_SAMPLES], out=done)
        self._overlap = frame[_HOP_SAMPLES:]
        self._ready += _HOP_SAMPLES

    def _enhance(self) -> NDArray[np.complex64]:
        enhanced, *caches = self._session.run(None, self._feed)
        self._feed.update(zip(_CACHES, caches, strict=True))
        result: NDArray[np.complex64] = enhanced.view(np.complex64)[0, :, 0, 0]
        return result

"""The log-mel spectrogram that Whisper hears.

Same numbers as ``whisper/audio.py`` (https://github.com/openai/whisper, MIT): 25 ms Hann windows
every 10 ms, Slaney mel filters, log10 clipped to 8 below the maximum.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import Context

SAMPLE_RATE_HZ = 16_000
FFT_SAMPLES = 400
HOP_SAMPLES = 160
FULL_FRAMES = 3000
"""30 s, the length the model was trained on."""
_FLOOR = 1e-10
_MARGIN_FRAMES = 200
_WIDER_FRAMES = 200
_MIN_FRAMES = 1400
"""A shorter context is far off what the model was trained on: at 5 s every eighth prompt of our
recordings loops, at 12 s none when there is silence around the words, at 14 s none (docs/asr.md).
"""


def context_frames(samples: int, context: Context) -> int:
    """Return how many 10 ms frames the encoder hears of ``samples`` in a context (even)."""
    if context == "full":
        return FULL_FRAMES
    cut = max(_MIN_FRAMES, math.ceil(samples / 320) * 2 + _MARGIN_FRAMES)
    return min(FULL_FRAMES, cut + _WIDER_FRAMES if context == "wide" else cut)


@cache
def mel_filters(mels: int = 80) -> NDArray[np.float32]:
    """Return the Slaney mel filter bank, shape (``mels``, 201), for 0-8 kHz.

    Linear below 1 kHz (200/3 Hz per mel), logarithmic above (27 mels per factor 6.4), triangles
    of equal area. Equals ``librosa.filters.mel(sr=16000, n_fft=400, n_mels=mels)``.
    """
    linear_step_hz, corner_hz = 200.0 / 3.0, 1000.0
    corner_mel = corner_hz / linear_step_hz
    log_step = np.log(6.4) / 27.0
    top_mel = corner_mel + np.log(SAMPLE_RATE_HZ / 2 / corner_hz) / log_step
    mel = np.linspace(0.0, top_mel, mels + 2)
    edges_hz = np.where(
        mel < corner_mel,
        mel * linear_step_hz,
        corner_hz * np.exp(log_step * (mel - corner_mel)),
    )
    bins_hz = np.fft.rfftfreq(FFT_SAMPLES, 1.0 / SAMPLE_RATE_HZ)
    slopes = edges_hz[:, None] - bins_hz[None, :]
    widths = np.diff(edges_hz)[:, None]
    triangles = np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]).clip(0.0)
    areas = (edges_hz[2:] - edges_hz[:-2])[:, None] / 2.0
    return np.asarray(triangles / areas, np.float32)


@cache
def _window() -> NDArray[np.float32]:
    return np.hanning(FFT_SAMPLES + 1)[:-1].astype(np.float32)


def log_mel(
    samples: NDArray[np.float32], *, frames: int = FULL_FRAMES, mels: int = 80
) -> NDArray[np.float32]:
    """Return features of shape (1, ``mels``, ``frames``) of at most ``frames`` x 10 ms of audio.

    ``samples`` is mono at 16 kHz. What the audio does not fill is silence, and costs nothing:
    the transform of zeros is known.
    """
    half = FFT_SAMPLES // 2
    samples = samples[: frames * HOP_SAMPLES]
    heard = min(frames, (len(samples) + half) // HOP_SAMPLES + 1)
    padded = np.zeros((heard - 1) * HOP_SAMPLES + FFT_SAMPLES, np.float32)
    body = samples[: len(padded) - half]
    padded[half : half + len(body)] = body
    padded[:half] = padded[half + 1 : FFT_SAMPLES + 1][::-1]  # the reflection Whisper begins with
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(windows * _window(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    features = np.full((1, mels, frames), np.log10(_FLOOR), np.float32)
    features[0, :, :heard] = np.log10(np.maximum(mel_filters(mels) @ power.T, _FLOOR))
    np.maximum(features, features.max() - 8.0, out=features)
    features += 4.0
    features /= 4.0
    return features

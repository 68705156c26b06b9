"""libspeexdsp through ctypes: an echo canceller and a noise and residual-echo suppressor.

The low-cost engine of the front-end, and the baseline in its benchmarks. The canceller is a
multidelay block frequency-domain filter with a learning rate that follows the leakage of the echo
(J.-M. Valin, "On Adjusting the Learning Rate in Frequency Domain Echo Cancellation With
Double-Talk", IEEE Trans. Audio Speech Lang. Process. 15(3), 2007). The suppressor is an
Ephraim-Malah one that takes the canceller's estimate of the residual echo for noise.

The library works on 16-bit integers. Its states are freed as soon as nothing refers to them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import weakref
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.errors import ApplianceError

FULL_SCALE = 32768.0

# speex_echo.h and speex_preprocess.h
_ECHO_SET_SAMPLING_RATE = 24
_SET_DENOISE = 0
_SET_NOISE_SUPPRESS = 18
_SET_ECHO_SUPPRESS = 20
_SET_ECHO_SUPPRESS_ACTIVE = 22
_SET_ECHO_STATE = 24


class SpeexEchoCanceller:
    """The linear echo canceller, one filter for each microphone, without latency.

    Every microphone has a filter of its own, so that a faulty one does not disturb the others;
    cost grows with their number (32 µs of CPU per microphone and block with a tail of 200 ms).
    The filter can be neither read nor set from outside: it starts cold.

    Args:
        channels: microphones.
        tail_ms: length of the echo path that can be cancelled, counted from the reference.
        rate_hz: of microphones and reference.

    Raises:
        ApplianceError: libspeexdsp is not installed.
    """

    def __init__(
        self, channels: int = 1, tail_ms: float = 200.0, *, rate_hz: int = RATE_HZ
    ) -> None:
        library = _library()
        tail_samples = int(tail_ms * rate_hz / 1000)
        self._states = [
            _State(
                library.speex_echo_state_init(BLOCK_SAMPLES, tail_samples),
                library.speex_echo_state_destroy,
            )
            for _ in range(channels)
        ]
        rate = ctypes.byref(ctypes.c_int(rate_hz))
        for state in self._states:
            library.speex_echo_ctl(state.pointer, _ECHO_SET_SAMPLING_RATE, rate)
        self._cancel = library.speex_echo_cancellation
        self._reset = library.speex_echo_state_reset
        self._mic = np.zeros((channels, BLOCK_SAMPLES), np.int16)
        self._far = np.zeros(BLOCK_SAMPLES, np.int16)
        self._out = np.zeros((channels, BLOCK_SAMPLES), np.int16)
        self._far_address = self._far.ctypes.data
        self._addresses = [
            (state.pointer, mic.ctypes.data, out.ctypes.data)
            for state, mic, out in zip(self._states, self._mic, self._out, strict=True)
        ]

    def process(self, mic: Samples, far: Samples) -> Samples:
        """Return the microphones without the echo of the loudspeaker.

        Args:
            mic: shape (channels, 160), finite; clips beyond ±1.
            far: shape (160,), what the loudspeaker played, on the microphones' clock and not later
                than its echo.

        Returns:
            Shape (channels, 160).
        """
        to_int16(mic, self._mic)
        to_int16(far, self._far)
        for state, mic_address, out_address in self._addresses:
            self._cancel(state, mic_address, self._far_address, out_address)
        return to_float(self._out)

    def reset(self) -> None:
        """Forget the echo path."""
        for state in self._states:
            self._reset(state.pointer)

    def _state_of(self, channel: int) -> _State:
        return self._states[channel]


class SpeexPreprocessor:
    """Noise and residual-echo suppressor for one channel, with a latency of 160 samples (10 ms).

    Costs 25 µs of CPU per block.

    Args:
        echo: the canceller that this channel came from, whose residual echo is suppressed too.
        channel: which of its microphones.
        denoise: suppress anything at all: without it the residual echo passes as well.
        noise_suppress_db: noise is lowered to this, at most (negative).
        echo_suppress_db: residual echo is lowered to this while only the far-end speaks.
        echo_suppress_active_db: the same while the near-end speaks.
        rate_hz: of the samples.

    Raises:
        ApplianceError: libspeexdsp is not installed.
    """

    LATENCY_SAMPLES = BLOCK_SAMPLES

    def __init__(
        self,
        echo: SpeexEchoCanceller | None = None,
        channel: int = 0,
        *,
        denoise: bool = True,
        noise_suppress_db: int = -15,
        echo_suppress_db: int = -40,
        echo_suppress_active_db: int = -15,
        rate_hz: int = RATE_HZ,
    ) -> None:
        library = _library()
        self._state = _State(
            library.speex_preprocess_state_init(BLOCK_SAMPLES, rate_hz),
            library.speex_preprocess_state_destroy,
        )
        for request, value in (
            (_SET_DENOISE, int(denoise)),
            (_SET_NOISE_SUPPRESS, noise_suppress_db),
            (_SET_ECHO_SUPPRESS, echo_suppress_db),
            (_SET_ECHO_SUPPRESS_ACTIVE, echo_suppress_active_db),
        ):
            argument = ctypes.byref(ctypes.c_int(value))
            library.speex_preprocess_ctl(self._state.pointer, request, argument)
        if echo is not None:
            # the library keeps the bare pointer: this keeps what it points to
            self._echo_state = echo._state_of(channel)
            library.speex_preprocess_ctl(
                self._state.pointer, _SET_ECHO_STATE, self._echo_state.pointer
            )
        self._run = library.speex_preprocess_run
        self._samples = np.zeros(BLOCK_SAMPLES, np.int16)
        self._address = self._samples.ctypes.data

    def process(self, block: Samples) -> Samples:
        """Return what was pushed 160 samples ago with less noise and echo; shapes (160,).

        To be called after the canceller's `process` of the same block. Input must be finite; it
        clips beyond ±1.
        """
        to_int16(block, self._samples)
        self._run(self._state.pointer, self._address)
        return to_float(self._samples)


def to_int16(samples: Samples, out: NDArray[np.int16]) -> None:
    """Round to the nearest 16-bit value into `out`; beyond full scale it clips, never wraps."""
    scaled = samples * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.minimum(scaled, FULL_SCALE - 1, out=scaled)
    np.maximum(scaled, -FULL_SCALE, out=scaled)
    out[...] = scaled


def to_float(samples: NDArray[np.int16]) -> Samples:
    """16-bit values as a new array of float32 in [-1, 1)."""
    result: Samples = samples.astype(np.float32) * np.float32(1 / FULL_SCALE)
    return result


class _State:
    """One state of the library, destroyed with the last reference to this."""

    def __init__(self, pointer: int, destroy: Callable[[ctypes.c_void_p], None]) -> None:
        self.pointer = ctypes.c_void_p(pointer)
        weakref.finalize(self, destroy, self.pointer)


@cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("speexdsp") or "libspeexdsp.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ApplianceError(
            "The library libspeexdsp is missing. Install it: apt-get install libspeexdsp1"
        ) from error
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    for function, result, arguments in (
        ("speex_echo_state_init", pointer, [integer, integer]),
        ("speex_echo_state_destroy", None, [pointer]),
        ("speex_echo_state_reset", None, [pointer]),
        ("speex_echo_ctl", integer, [pointer, integer, pointer]),
        ("speex_echo_cancellation", None, [pointer] * 4),
        ("speex_preprocess_state_init", pointer, [integer, integer]),
        ("speex_preprocess_state_destroy", None, [pointer]),
        ("speex_preprocess_ctl", integer, [pointer, integer, pointer]),
        ("speex_preprocess_run", integer, [pointer, pointer]),
    ):
        entry = getattr(library, function)
        entry.restype, entry.argtypes = result, arguments
    return library

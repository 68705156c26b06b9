"""libopus through ctypes: what browsers speak (RFC 6716), at the appliance's own rate.

The codec itself can work at 16 kHz, whatever the other side uses, so nothing is resampled; and it
conceals lost packets, which the same library cannot be asked for through FFmpeg.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import weakref
from functools import cache
from typing import Any

import numpy as np

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.errors import ApplianceError

# opus_defines.h
_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERCENT = 4014
_LONGEST_PACKET_MS = 120
_LONGEST_FRAME_BYTES = 1275

BIT_RATE = 32_000
_COMPLEXITY = 5
_EXPECTED_LOSS_PERCENT = 5
"""Share of lost packets for which the encoder spends bits on repeating itself."""


class OpusError(ValueError):
    """A packet that is none."""


class OpusDecoder:
    """Decodes one stream of packets in order to mono samples.

    Raises:
        ApplianceError: libopus is not installed.
    """

    def __init__(self) -> None:
        self._library = library = _library()
        status = ctypes.c_int()
        self._state = library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(status))
        if not self._state:
            raise ApplianceError(f"libopus makes no decoder (error {status.value}).")
        weakref.finalize(self, library.opus_decoder_destroy, self._state)

    def decode(self, packet: bytes) -> Samples:
        """The samples of a packet.

        Raises:
            OpusError: it is no Opus packet; the decoder stays as it was.
        """
        if not packet:
            raise OpusError("an empty packet")
        return self._decode(packet, RATE_HZ * _LONGEST_PACKET_MS // 1000, fec=False)

    def conceal(self, samples: int, following: bytes = b"") -> Samples:
        """What may have been in a lost packet.

        Args:
            samples: how many; a multiple of 2.5 ms.
            following: the packet after the lost one, which may carry a coarse copy of it.
        """
        if following:
            try:
                return self._decode(following, samples, fec=True)
            except OpusError:
                pass  # the guess is as good then
        return self._decode(None, samples, fec=False)

    def _decode(self, packet: bytes | None, samples: int, *, fec: bool) -> Samples:
        decoded = np.empty(samples, np.float32)
        count: int = self._library.opus_decode_float(
            self._state, packet, len(packet or b""), decoded.ctypes.data, samples, int(fec)
        )
        if count < 0:
            raise OpusError(f"no Opus packet (error {count})")
        return decoded[:count]


class OpusEncoder:
    """Encodes mono samples for a browser.

    Raises:
        ApplianceError: libopus is not installed.
    """

    def __init__(self) -> None:
        self._library = library = _library()
        status = ctypes.c_int()
        self._state = library.opus_encoder_create(
            RATE_HZ, 1, _APPLICATION_VOIP, ctypes.byref(status)
        )
        if not self._state:
            raise ApplianceError(f"libopus makes no encoder (error {status.value}).")
        weakref.finalize(self, library.opus_encoder_destroy, self._state)
        for setting, value in (
            (_SET_BITRATE, BIT_RATE),
            (_SET_COMPLEXITY, _COMPLEXITY),
            (_SET_INBAND_FEC, 1),
            (_SET_PACKET_LOSS_PERCENT, _EXPECTED_LOSS_PERCENT),
        ):
            library.opus_encoder_ctl(self._state, setting, ctypes.c_int(value))
        self._packet = ctypes.create_string_buffer(_LONGEST_FRAME_BYTES)

    def encode(self, samples: Samples) -> bytes:
        """One packet; takes 2.5, 5, 10, 20, 40 or 60 ms at a time."""
        whole = np.ascontiguousarray(samples, np.float32)
        count: int = self._library.opus_encode_float(
            self._state, whole.ctypes.data, len(whole), self._packet, _LONGEST_FRAME_BYTES
        )
        if count < 0:
            raise ValueError(f"{len(whole)} samples cannot be encoded (error {count})")
        return self._packet.raw[:count]


@cache
def _library() -> Any:  # noqa: ANN401 ctypes has no types for what a library holds
    name = ctypes.util.find_library("opus") or "libopus.so.0"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ApplianceError(
            "The library libopus is missing. Install it: apt-get install libopus0"
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.opus_decoder_create.restype = pointer
    library.opus_decoder_create.argtypes = [number, number, ctypes.POINTER(number)]
    library.opus_decoder_destroy.argtypes = [pointer]
    library.opus_decode_float.argtypes = [pointer, ctypes.c_char_p, number, pointer, number, number]
    library.opus_encoder_create.restype = pointer
    library.opus_encoder_create.argtypes = [number, number, number, ctypes.POINTER(number)]
    library.opus_encoder_destroy.argtypes = [pointer]
    library.opus_encode_float.argtypes = [pointer, pointer, number, ctypes.c_char_p, number]
    library.opus_encoder_ctl.argtypes = [pointer, number]  # and what the setting takes
    return library

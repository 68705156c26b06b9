"""Whisper through whisper-cpp-python 0.2.0: an optional extra, whisper.cpp of 2023.

It reads the same ggml files and is several times slower than the other engines: its encoder
always hears 30 s.
"""

import ctypes
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import (
    Context,
    EngineName,
    Timings,
    Token,
    Transcription,
    TranscriptionCancelledError,
    milliseconds,
)
from appliance.asr.features import SAMPLE_RATE_HZ
from appliance.asr.whisper_cpp import ggml_file
from appliance.asr.words import from_tokens, spread
from appliance.errors import ApplianceError

_GREEDY = 0
"""``WHISPER_SAMPLING_GREEDY`` in whisper.h; the package does not name it."""


class WhisperCppPythonEngine:
    """One Whisper model in memory."""

    name: EngineName = "whisper-cpp-python"

    def __init__(self, model_dir: Path, *, threads: int = 1) -> None:
        """Load the ggml file of ``model_dir``.

        Raises:
            ApplianceError: the package is not installed, the file is missing or corrupt.
        """
        try:
            from whisper_cpp_python import whisper_cpp
        except ImportError as error:
            raise ApplianceError(
                "The engine whisper-cpp-python is not installed; build it with: "
                "CMAKE_POLICY_VERSION_MINIMUM=3.5 uv pip install whisper-cpp-python==0.2.0, "
                "or set asr.engine to ctranslate2"
            ) from error
        self._whisper = whisper_cpp
        self._threads = threads
        path = ggml_file(model_dir)
        self._context = whisper_cpp.whisper_init_from_file(str(path).encode())
        if not self._context:
            raise ApplianceError(
                f"The speech model {path} cannot be used; get it again with: "
                f"appliance models fetch {model_dir.name}"
            )
        self._end_of_text: int = whisper_cpp.whisper_token_eot(self._context)

    def transcribe(
        self,
        samples: NDArray[np.float32],
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
        words: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcription:
        """See ``AsrEngine``. ``context`` and a cancellation under way have no effect here.

        Word times are guesses.
        """
        del context
        if cancelled():
            raise TranscriptionCancelledError
        whisper = self._whisper
        parameters = whisper.whisper_full_default_params(_GREEDY)
        parameters.n_threads = self._threads
        parameters.language = language.encode()
        parameters.initial_prompt = prompt.encode()
        parameters.no_context = True
        parameters.single_segment = True
        parameters.suppress_non_speech_tokens = True
        parameters.print_progress = False
        parameters.print_timestamps = False
        audio = np.ascontiguousarray(samples, np.float32)
        began_ns = time.monotonic_ns()
        status = whisper.whisper_full(
            self._context,
            parameters,
            audio.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            audio.size,
        )
        decode_ms = milliseconds(time.monotonic_ns() - began_ns)
        if status != 0:
            raise ApplianceError(
                f"whisper-cpp-python failed with status {status}; set asr.engine to ctranslate2"
            )
        return self._result(decode_ms, len(samples) / SAMPLE_RATE_HZ if words else None)

    def _result(self, decode_ms: float, words_s: float | None) -> Transcription:
        whisper, context = self._whisper, self._context
        tokens = tuple(
            Token(
                whisper.whisper_full_get_token_text(context, segment, index).decode(
                    "utf-8", errors="replace"
                ),
                whisper.whisper_full_get_token_p(context, segment, index),
            )
            for segment in range(whisper.whisper_full_n_segments(context))
            for index in range(whisper.whisper_full_n_tokens(context, segment))
            if whisper.whisper_full_get_token_id(context, segment, index) < self._end_of_text
        )
        text = b"".join(
            whisper.whisper_full_get_segment_text(context, segment)
            for segment in range(whisper.whisper_full_n_segments(context))
        )
        pieces = [token.text.encode() for token in tokens]
        probabilities = [token.probability for token in tokens]
        logprobs = [math.log(max(probability, 1e-10)) for probability in probabilities]
        return Transcription(
            text=text.decode("utf-8", errors="replace").strip(),
            tokens=tokens,
            avg_logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
            no_speech_prob=math.nan,
            complete=True,
            timings=Timings(0.0, 0.0, decode_ms),
            words=()
            if words_s is None
            else from_tokens(pieces, probabilities, spread(pieces, words_s), words_s),
        )

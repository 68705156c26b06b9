"""Whisper through whisper.cpp (pywhispercpp): the engine for CUDA, complete on a CPU too.

The low-level module is used, not ``pywhispercpp.model.Model``: that one downloads a model it
does not find, and keeps every parameter of one call for the next.
"""

import atexit
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import (
    NO_SPEECH_PROB,
    Context,
    EngineName,
    Timings,
    Token,
    Transcription,
    TranscriptionCancelledError,
    milliseconds,
    token_limit,
)
from appliance.asr.features import SAMPLE_RATE_HZ, context_frames
from appliance.asr.words import from_tokens, spread
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    import _pywhispercpp

_log = logging.getLogger(__name__)
_GGML_LOG_ERROR = 4
_UNSURE_AVG_LOGPROB = -0.4


def built_with_cuda() -> bool:
    """Return whether the installed pywhispercpp can use a CUDA device."""
    try:
        import _pywhispercpp
    except ImportError:
        return False
    return "CUDA" in _pywhispercpp.whisper_print_system_info()


def ggml_file(model_dir: Path) -> Path:
    """Return the ggml file of a model folder, say ``whisper-tiny.en/ggml-tiny.en.bin``.

    Raises:
        ApplianceError: it is not there.
    """
    path = model_dir / f"ggml-{model_dir.name.removeprefix('whisper-')}.bin"
    if not path.is_file():
        raise ApplianceError(
            f"The speech model {path} is missing; get it with: appliance models fetch "
            f"{model_dir.name}"
        )
    return path


class WhisperCppEngine:
    """One Whisper model in memory."""

    name: EngineName = "whisper.cpp"

    def __init__(self, model_dir: Path, *, threads: int = 1) -> None:
        """Load the ggml file of ``model_dir`` (0.1 s for tiny).

        Raises:
            ApplianceError: pywhispercpp is not installed, the file is missing or corrupt.
        """
        try:
            import _pywhispercpp
        except ImportError as error:
            raise ApplianceError(
                "The engine whisper.cpp needs pywhispercpp; install it with: uv sync, "
                "or set asr.engine to ctranslate2"
            ) from error
        self._whisper = _pywhispercpp
        self._threads = threads
        path = ggml_file(model_dir)
        self._errors: list[str] = []
        _pywhispercpp.whisper_log_set(self._on_log)
        # whisper.cpp logs once more when the interpreter frees the model: too late for Python.
        atexit.register(_pywhispercpp.whisper_log_set, None)
        parameters = _pywhispercpp.whisper_context_default_params()
        self._context = _pywhispercpp.whisper_init_from_file_with_params(str(path), parameters)
        if self._errors:  # the binding wraps a null pointer where whisper.cpp fails
            raise ApplianceError(
                f"The speech model {path} cannot be used ({self._errors[0]}); get it again with: "
                f"appliance models fetch {model_dir.name}"
            )
        self._multilingual = bool(_pywhispercpp.whisper_is_multilingual(self._context))
        self._end_of_text: int = _pywhispercpp.whisper_token_eot(self._context)

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
        """See ``AsrEngine``. Stops within one graph node (milliseconds) when cancelled.

        The binding does not tell ``no_speech_prob`` (NaN); whisper.cpp applies its own gate and
        returns no text. Word times are guesses.
        """
        audio_s = len(samples) / SAMPLE_RATE_HZ
        parameters = self._parameters(audio_s, language, context, prompt)
        if context != "full":
            parameters.audio_ctx = context_frames(len(samples), context) // 2
        self._whisper.assign_abort_callback(parameters, lambda *_: cancelled())
        padding = max(0, SAMPLE_RATE_HZ - len(samples))  # refuses less than a second
        audio = np.ascontiguousarray(np.pad(samples, (0, padding)), np.float32)
        self._errors.clear()
        began_ns = time.monotonic_ns()
        try:
            status = self._whisper.whisper_full(self._context, parameters, audio, audio.size)
        finally:
            self._whisper.assign_abort_callback(parameters, None)
        decode_ms = milliseconds(time.monotonic_ns() - began_ns)
        if status != 0:
            if cancelled():
                raise TranscriptionCancelledError
            raise ApplianceError(
                f"whisper.cpp failed with status {status} ({'; '.join(self._errors)}); "
                "check free memory with: appliance doctor"
            )
        return self._result(decode_ms, audio_s if words else None)

    def _parameters(
        self, audio_s: float, language: str, context: Context, prompt: str
    ) -> "_pywhispercpp.whisper_full_params":
        whisper = self._whisper
        if self._multilingual and whisper.whisper_lang_id(language) < 0:
            raise ApplianceError(
                f"The speech model does not know the language {language!r}; "
                "set asr.language to a two-letter code such as en"
            )
        parameters = whisper.whisper_full_default_params(
            whisper.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        )
        parameters.n_threads = self._threads
        parameters.language = language if self._multilingual else "en"
        parameters.initial_prompt = prompt
        parameters.max_tokens = token_limit(audio_s)
        parameters.no_context = True
        parameters.no_timestamps = True
        parameters.single_segment = True
        parameters.suppress_nst = True
        parameters.print_progress = False
        parameters.no_speech_thold = NO_SPEECH_PROB
        if context != "full":  # a cut context that fails is tried again in full, not by chance
            parameters.temperature_inc = 0.0
            parameters.logprob_thold = _UNSURE_AVG_LOGPROB
        return parameters

    def _result(self, decode_ms: float, words_s: float | None) -> Transcription:
        whisper, context = self._whisper, self._context
        tokens = [
            whisper.whisper_full_get_token_data(context, segment, index)
            for segment in range(whisper.whisper_full_n_segments(context))
            for index in range(whisper.whisper_full_n_tokens(context, segment))
        ]
        heard = [
            (whisper.whisper_token_to_bytes(context, token.id), token.p)
            for token in tokens
            if token.id < self._end_of_text
        ]
        pieces = [text for text, _ in heard]
        logprobs = [math.log(max(token.p, 1e-10)) for token in tokens]
        return Transcription(
            text=b"".join(pieces).decode("utf-8", errors="replace").strip(),
            tokens=tuple(Token(text.decode("utf-8", errors="replace"), p) for text, p in heard),
            avg_logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
            no_speech_prob=math.nan,
            complete=not tokens or tokens[-1].id >= self._end_of_text,
            timings=Timings(0.0, 0.0, decode_ms),
            words=()
            if words_s is None
            else from_tokens(pieces, [p for _, p in heard], spread(pieces, words_s), words_s),
        )

    def _on_log(self, level: int, text: str, *_: object) -> None:
        if level == _GGML_LOG_ERROR or "no tensors loaded" in text:
            self._errors.append(text.strip())
        _log.debug("%s", text.strip())

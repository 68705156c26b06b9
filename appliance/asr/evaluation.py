"""Word error rate of an engine on recordings with known words.

For developers: needs ``jiwer`` from the dev group. Texts are normalised as Whisper's paper does
(case, punctuation, numbers, contractions), so that style is not counted as error.
"""

import re
import statistics
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.errors import ApplianceError

_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *_TEENS,
    *("eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SAME = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "ok": "okay",
    "til": "till",
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "let's": "let us",
}
_CONTRACTIONS = (
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"\b(it|that|he|she|there|what|who|where)'s\b"), r"\1 is"),
)


class Recording(Protocol):
    """Speech and what is said in it."""

    @property
    def samples(self) -> NDArray[np.float32]:
        """Mono, 16 kHz."""
        ...

    @property
    def text(self) -> str:
        """The words."""
        ...


def number_words(digits: str) -> str:
    """Return ``digits`` as spoken: up to 9999 as a number, longer ones digit by digit."""
    number = int(digits)
    if len(digits) > 4 or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_ONES[int(digit)] for digit in digits)
    if number >= 1000:
        rest = f" {number_words(str(number % 1000))}" if number % 1000 else ""
        return f"{_ONES[number // 1000]} thousand{rest}"
    if number >= 100:
        rest = f" {number_words(str(number % 100))}" if number % 100 else ""
        return f"{_ONES[number // 100]} hundred{rest}"
    if number >= 20:
        return f"{_TENS[number // 10]} {_ONES[number % 10]}" if number % 10 else _TENS[number // 10]
    return _ONES[number]


def normalise(text: str) -> str:
    """Return ``text`` in lower case, without punctuation, with numbers and contractions spelt."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", text)
    text = " ".join(_SAME.get(word.strip(".,!?;:"), word) for word in text.split())
    for pattern, spelt in _CONTRACTIONS:
        text = pattern.sub(spelt, text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text).replace("'", "")
    text = re.sub(r"\d+", lambda match: f" {number_words(match.group())} ", text)
    return " ".join(re.sub(r"[^\w\s]|_", " ", text).split())


def word_error_percent(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the word error rate of ``heard`` texts, both normalised.

    Raises:
        ApplianceError: jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise ApplianceError(
            "Measuring word error rates needs jiwer; install it with: uv sync --group dev"
        ) from error
    return 100.0 * float(jiwer.wer(list(said), list(heard)))


def evaluate_wer(
    transcribe: Callable[[NDArray[np.float32]], str], recordings: Iterable[Recording]
) -> dict[str, float]:
    """Return ``wer_percent``, ``words``, CPU per second of audio and latency percentiles.

    ``transcribe`` is a recogniser's whole way from samples to text, so that engines, contexts and
    the guarded transcriber compare alike. CPU time is that of the process, all threads.

    Raises:
        ApplianceError: jiwer is not installed, or no recording was given.
    """
    references: list[str] = []
    hypotheses: list[str] = []
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    audio_s = 0.0
    for recording in recordings:
        wall_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        heard = transcribe(recording.samples)
        cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6)
        wall_ms.append((time.monotonic_ns() - wall_ns) / 1e6)
        audio_s += len(recording.samples) / 16_000
        references.append(normalise(recording.text))
        hypotheses.append(normalise(heard))
    if not references:
        raise ApplianceError("There are no recordings to measure a word error rate on")
    return {
        "wer_percent": word_error_percent(references, hypotheses),
        "recordings": float(len(references)),
        "words": float(sum(len(text.split()) for text in references)),
        "audio_s": audio_s,
        "cpu_ms_per_audio_s": sum(cpu_ms) / audio_s,
        "cpu_p50_ms": statistics.median(cpu_ms),
        "cpu_max_ms": max(cpu_ms),
        "wall_p50_ms": statistics.median(wall_ms),
        "wall_max_ms": max(wall_ms),
    }

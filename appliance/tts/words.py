"""When each word of a text has been said. Pure.

An engine knows where its sounds (phonemes) lie but not which word they belong to: "1969" is five
words of sounds, "of the" is one. So every word is pronounced alone as well; the sounds of the words
add up to nearly those of the whole, and a word ends at its share of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from appliance.speech_text.gaps import is_cjk
from appliance.tts.engine import Audio

_IDEOGRAPH = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff]"
_UNSPACED = re.compile(rf"\W*(?:{_IDEOGRAPH}|(?:(?!{_IDEOGRAPH})\w)+)(?:(?!{_IDEOGRAPH})\W)*|\W+")
_WINDOW_MS = 10
_QUIET_DB = -35.0


def share_out(word_sounds: Sequence[int], sentence_sounds: Sequence[int]) -> list[list[int]]:
    """Divide the words of a text among its sentences.

    Args:
        word_sounds: sounds of each word alone.
        sentence_sounds: sounds of each sentence as it is spoken.

    Returns:
        For each sentence, for each word that ends in it, after how many of its sounds.
    """
    ends = list(accumulate(sentence_sounds))
    result: list[list[int]] = [[] for _ in sentence_sounds]
    if not ends:
        return result
    total = sum(word_sounds)
    sentence = 0
    for said in accumulate(word_sounds):
        position = round(ends[-1] * said / total) if total else ends[-1]
        while position > ends[sentence]:
            sentence += 1
        result[sentence].append(position - (ends[sentence - 1] if sentence else 0))
    return result


def characters(word: str, start_ms: float, end_ms: float) -> list[tuple[str, float]]:
    """Divide what is written without spaces, as Chinese is: [(part, when it ends)].

    A part is a character and the marks after it, or a word of another writing. All take the same
    time, which Chinese syllables nearly do.

    Args:
        word: what stands between two spaces.
        start_ms: when its sound begins.
        end_ms: when its sound ends.
    """
    parts = _UNSPACED.findall(word) if any(map(is_cjk, word)) else [word]
    step_ms = (end_ms - start_ms) / max(1, len(parts))
    return [(part, start_ms + n * step_ms) for n, part in enumerate(parts[:-1], start=1)] + [
        (part, end_ms) for part in parts[-1:]
    ]


def by_weight(weights: Sequence[int], audio: Audio, rate_hz: int) -> tuple[int, ...]:
    """Guess where words end in audio whose sounds are not known.

    Every sound takes the same time, pauses take none.

    Args:
        weights: sounds of each word that is said in it.
        audio: shape (n,).
        rate_hz: of the audio.

    Returns:
        A sample index for each word.
    """
    window = rate_hz * _WINDOW_MS // 1000
    padded = np.pad(audio, (0, -audio.size % window)).reshape(-1, window)
    power: npt.NDArray[np.float64] = (padded.astype(np.float64) ** 2).mean(axis=1)
    voiced = np.cumsum(power > power.max(initial=0.0) * 10 ** (_QUIET_DB / 10))
    said = np.cumsum(np.maximum(weights, 1)) if len(weights) else np.zeros(0)
    windows = np.searchsorted(voiced, said / max(1, sum(np.maximum(weights, 1))) * voiced[-1] - 0.5)
    return tuple(min(audio.size, int(n + 1) * window) for n in windows)

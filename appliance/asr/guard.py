"""Doubts what Whisper says: loops, words that fit no audio, words where nobody spoke."""

import enum
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import NO_SPEECH_PROB, Context, Transcription
from appliance.asr.features import SAMPLE_RATE_HZ
from appliance.asr.words import HeardWord, text_of

_MAX_COMPRESSION_RATIO = 2.0
_MIN_AVG_LOGPROB = -0.5
"""Of a cut context; a tenth of our recordings, mostly single words, score lower and are retried."""
_CHANCE_AVG_LOGPROB = -1.5
"""What Whisper's last resort, a high temperature, makes of noise; speech stays above -1."""
_SURE_AVG_LOGPROB = -0.4
_MAX_WORDS_PER_S = 6.0
_NOISE_CONTRAST_DB = 10.0
_FRAME_SAMPLES = 480
_NO_TIME_S = 0.03
_LOOP_REPEATS, _LONG_LOOP_REPEATS = 3, 2
_LONG_LOOP_WORDS = 5
"""Nobody says so many words twice without a word between."""
_LONGEST_LOOP_WORDS = 16
_NON_SPEECH = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|♪[^♪]*♪?")
_HALLUCINATIONS = frozenset(
    (
        "you",
        "thank you",
        "thank you very much",
        "thanks",
        "thanks for watching",
        "thank you for watching",
        "please subscribe",
        "bye",
        "so",
        "the",
        "okay",
        "oh",
        "i",
        "hmm",
        "music",
        "silence",
    )
)
"""What Whisper makes of noise, without punctuation. Each may be meant, so text alone decides
nothing."""


class Verdict(enum.Enum):
    """What to do with a transcription."""

    OK = "ok"
    RETRY = "retry with more context"
    NOTHING_SAID = "nothing said"


def has_loop(text: str) -> bool:
    """Return whether a group of words follows itself at least twice, or a long one once."""
    words = re.findall(r"\w+", text.lower())
    for length in range(1, _LONGEST_LOOP_WORDS + 1):
        repeats = _LOOP_REPEATS if length < _LONG_LOOP_WORDS else _LONG_LOOP_REPEATS
        run = 0
        for index in range(length, len(words)):
            run = run + 1 if words[index] == words[index - length] else 0
            if run >= length * (repeats - 1):
                return True
    return False


def ends_in_no_time(words: Sequence[HeardWord]) -> bool:
    """Return whether the last two words take up no audio: they were said before, or never."""
    return len(words) >= 2 and all(word.end_s - word.start_s < _NO_TIME_S for word in words[-2:])


def is_looping(transcription: Transcription) -> bool:
    """Return whether the words go round in circles."""
    ratio = transcription.compression_ratio
    return ratio > _MAX_COMPRESSION_RATIO or has_loop(transcription.text)


def is_lost(transcription: Transcription, audio_s: float) -> bool:
    """Return whether the words look like a decoder that lost its way."""
    words = len(transcription.text.split())
    return (
        not transcription.complete
        or words > 2 + _MAX_WORDS_PER_S * audio_s
        or is_looping(transcription)
        or ends_in_no_time(transcription.words)
    )


def is_suspect(transcription: Transcription, audio_s: float) -> bool:
    """Return whether the words should not be believed without a second opinion."""
    return transcription.avg_logprob < _MIN_AVG_LOGPROB or is_lost(transcription, audio_s)


def is_confirmed(first: Transcription, second: Transcription, audio_s: float) -> bool:
    """Return whether two hearings with different contexts say the same and are not lost.

    A decoder that loops or invents does so differently each time; one that is merely unsure says
    the same again, with any context.
    """
    said, again = (re.findall(r"\w+", heard.text.lower()) for heard in (first, second))
    return said == again and not is_lost(second, audio_s)


def is_invented(first: Transcription, second: Transcription) -> bool:
    """Return whether the second hearing goes round in circles of other words than the first.

    Who really repeats himself is heard with the same words, if not as often.
    """
    said, again = (set(re.findall(r"\w+", heard.text.lower())) for heard in (first, second))
    return is_looping(second) and 2 * len(said & again) < len(said | again)


def spoken_text(text: str) -> str:
    """Return ``text`` without "[BLANK_AUDIO]", "(music)" and the like, in single spaces."""
    return " ".join(_NON_SPEECH.sub(" ", text).split())


def spoken_words(words: Sequence[HeardWord]) -> tuple[HeardWord, ...]:
    """Return ``words`` without those that ``spoken_text`` would take out."""
    silent = [match.span() for match in _NON_SPEECH.finditer(text_of(words))]
    spoken, position = [], 0
    for word in words:
        end = position + len(word.text)
        if not any(first < end and position < last for first, last in silent):
            spoken.append(word)
        position = end + 1
    return tuple(spoken)


def contrast_db(samples: NDArray[np.float32]) -> float:
    """Return how far loud 30 ms frames stand above quiet ones: speech 19 dB and more, noise 7."""
    if len(samples) < 2 * _FRAME_SAMPLES:
        return 0.0
    frames = samples[: len(samples) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    levels_db = 10.0 * np.log10(np.mean(np.square(frames), axis=1) + 1e-9)
    return float(np.percentile(levels_db, 95) - np.percentile(levels_db, 10))


def judge(transcription: Transcription, samples: NDArray[np.float32], context: Context) -> Verdict:
    """Return what to do with what was heard in ``samples`` (16 kHz) with ``context``.

    Nothing was said if there are no words; if Whisper itself thinks so and is not sure of the
    words; if the words are its usual ones for noise while the evidence for speech is weak; or if
    even full context gives only words by chance.
    """
    text = spoken_text(transcription.text)
    by_chance = context == "full" and transcription.avg_logprob < _CHANCE_AVG_LOGPROB
    if by_chance or not re.search(r"\w", text):
        return Verdict.NOTHING_SAID
    unsure = transcription.avg_logprob < _SURE_AVG_LOGPROB
    usual = re.sub(r"[^\w\s]", "", text.lower()).strip() in _HALLUCINATIONS
    if math.isnan(transcription.no_speech_prob):
        nobody = usual and (unsure or contrast_db(samples) < _NOISE_CONTRAST_DB)
    else:
        nobody = transcription.no_speech_prob > NO_SPEECH_PROB and (unsure or usual)
    if nobody:
        return Verdict.NOTHING_SAID
    if context != "full" and is_suspect(transcription, len(samples) / SAMPLE_RATE_HZ):
        return Verdict.RETRY
    return Verdict.OK

"""Doubts what Whisper says: loops, words that fit no audio, words where nobody spoke."""

import enum
import math
import re

from appliance.asr.engine import NO_SPEECH_PROB, Context, Transcription

_MAX_COMPRESSION_RATIO = 2.0
_MIN_AVG_LOGPROB = -0.5
"""Of a cut context; a tenth of our recordings, mostly single words, score lower and are retried."""
_SURE_AVG_LOGPROB = -0.4
_MAX_WORDS_PER_S = 6.0
_LOOP_REPEATS = 3
_LONGEST_LOOP_WORDS = 8
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
    RETRY_FULL = "retry with full context"
    NOTHING_SAID = "nothing said"


def has_loop(text: str) -> bool:
    """Return whether a group of up to eight words follows itself at least twice."""
    words = re.findall(r"\w+", text.lower())
    for length in range(1, _LONGEST_LOOP_WORDS + 1):
        run = 0
        for index in range(length, len(words)):
            run = run + 1 if words[index] == words[index - length] else 0
            if run >= length * (_LOOP_REPEATS - 1):
                return True
    return False


def is_suspect(transcription: Transcription, audio_s: float) -> bool:
    """Return whether the words look like a decoder that lost its way."""
    words = len(transcription.text.split())
    return (
        not transcription.complete
        or transcription.compression_ratio > _MAX_COMPRESSION_RATIO
        or transcription.avg_logprob < _MIN_AVG_LOGPROB
        or words > 2 + _MAX_WORDS_PER_S * audio_s
        or has_loop(transcription.text)
    )


def spoken_text(text: str) -> str:
    """Return ``text`` without "[BLANK_AUDIO]", "(music)" and the like, in single spaces."""
    return " ".join(_NON_SPEECH.sub(" ", text).split())


def judge(transcription: Transcription, audio_s: float, context: Context) -> Verdict:
    """Return what to do with what was heard in ``audio_s`` seconds with ``context``.

    Nothing was said if there are no words; if Whisper itself thinks so and is not sure of the
    words; or if the words are its usual ones for noise while the evidence for speech is weak.
    """
    text = spoken_text(transcription.text)
    if not re.search(r"\w", text):
        return Verdict.NOTHING_SAID
    unsure = transcription.avg_logprob < _SURE_AVG_LOGPROB
    usual = re.sub(r"[^\w\s]", "", text.lower()).strip() in _HALLUCINATIONS
    if math.isnan(transcription.no_speech_prob):
        nobody = usual and unsure
    else:
        nobody = transcription.no_speech_prob > NO_SPEECH_PROB and (unsure or usual)
    if nobody:
        return Verdict.NOTHING_SAID
    if context == "cut" and is_suspect(transcription, audio_s):
        return Verdict.RETRY_FULL
    return Verdict.OK

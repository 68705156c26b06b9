"""Turn what an engine renders into speech that can be laid end to end. Pure.

Engines leave silence at both ends (Piper 50 ms before, 100 to 280 ms after) that would delay the
first sound and make every pause a matter of chance. It is cut, and the pause between two chunks is
put in front of the second, so that an utterance ends where its last sound ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.tts.engine import Audio
from appliance.tts.loudness import LoudnessNormaliser

AUDIBLE = 10 ** (-50 / 20)
"""Amplitude from which a sample counts as audible: -50 dBFS, 30 dB below the speech."""

_WINDOW_MS = 5
_THRESHOLD_DB = -40.0
_LEAD_MS = 8
_TAIL_MS = 40
_FADE_IN_MS = 2
_FADE_OUT_MS = 8

_SENTENCE_PAUSE_MS = 250
_CLAUSE_PAUSE_MS = 120
_WORD_PAUSE_MS = 40
_CLOSERS = "\"'”’»)]}›」』）】*_` "


@dataclass(frozen=True)
class Speech:
    """One chunk, ready to be queued behind the one before."""

    samples: Audio
    """Shape (n,), mono in [-1, 1] at the engine's rate, the pause included."""
    first_audible: int
    """Index of the first sample that reaches `AUDIBLE`."""


class SpeechShaper:
    """Trims, levels and fades the chunks that an engine renders, one after the other.

    Keep one per voice, not one per utterance: the loudness is a running one.

    Args:
        rate_hz: of the engine.
        loudness: the running normaliser, for the same rate.
    """

    def __init__(self, rate_hz: int, loudness: LoudnessNormaliser | None = None) -> None:
        self._rate_hz = rate_hz
        self._loudness = loudness or LoudnessNormaliser(rate_hz)

    def shape(self, audio: Audio, *, pause_ms: float = 0.0) -> Speech | None:
        """Make one rendered chunk ready to play.

        Args:
            audio: as rendered, shape (n,).
            pause_ms: silence before it; see `pause_after_ms`. 0 at the start of an utterance.

        Returns:
            The speech, or None when nothing in it is audible.
        """
        voiced = trim(audio, self._rate_hz)
        levelled = fade(self._loudness.apply(voiced), self._rate_hz)
        audible = np.flatnonzero(np.abs(levelled) >= AUDIBLE)
        if audible.size == 0:
            return None
        n_pause = round(pause_ms * self._rate_hz / 1000)
        samples = np.concatenate([np.zeros(n_pause, np.float32), levelled])
        return Speech(samples=samples, first_audible=n_pause + int(audible[0]))


def pause_after_ms(text: str) -> float:
    """The pause that the punctuation at the end of a chunk of text asks for."""
    mark = text.rstrip(_CLOSERS)[-1:]
    if mark and mark in ".!?…。！？":
        return _SENTENCE_PAUSE_MS
    if mark and mark in ",;:，；：、–—":
        return _CLAUSE_PAUSE_MS
    return _WORD_PAUSE_MS


def going_on(text: str) -> str:
    """The text with a comma where it breaks off, so that the voice does not fall as at an end."""
    return f"{text}," if text[-1:].isalnum() else text


def trim(audio: Audio, rate_hz: int) -> Audio:
    """Cut the near-silence at both ends, leaving 8 ms before and 40 ms after the speech.

    Speech is where the level of a 5 ms window is within 40 dB of the loudest one and above
    -60 dBFS; without any, the result is empty.
    """
    window = rate_hz * _WINDOW_MS // 1000
    if audio.size < window:
        return audio[:0]
    n_windows = audio.size // window
    power = (audio[: n_windows * window].reshape(n_windows, window).astype(np.float64) ** 2).mean(1)
    threshold = max(power.max() * 10 ** (_THRESHOLD_DB / 10), 1e-6)
    voiced = np.flatnonzero(power > threshold)
    if voiced.size == 0:
        return audio[:0]
    start = int(voiced[0]) * window - rate_hz * _LEAD_MS // 1000
    end = (int(voiced[-1]) + 1) * window + rate_hz * _TAIL_MS // 1000
    return audio[max(0, start) : end]


def fade(audio: Audio, rate_hz: int) -> Audio:
    """A copy that starts and ends at zero: raised-cosine fades of 2 and 8 ms against clicks."""
    faded: Audio = audio.copy()
    for fade_ms, end in ((_FADE_IN_MS, faded), (_FADE_OUT_MS, faded[::-1])):
        n = min(audio.size, rate_hz * fade_ms // 1000)
        end[:n] *= (0.5 - 0.5 * np.cos(np.pi * np.arange(n) / max(1, n))).astype(np.float32)
    return faded

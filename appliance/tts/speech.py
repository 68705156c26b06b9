"""Turn what an engine renders into speech that can be laid end to end, while it is rendered. Pure.

Engines leave silence at both ends (Piper 50 ms before, 100 to 280 ms after) that would delay the
first sound and make every pause a matter of chance. It is cut, and the pause between two sentences
is put in front of the second, so that an utterance ends where its last sound ends.
"""

from __future__ import annotations

import numpy as np

from appliance.tts.engine import Audio
from appliance.tts.loudness import LIMITER_REACH_MS, LoudnessNormaliser, limit

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

_NOTHING: Audio = np.zeros(0, np.float32)


class SentenceShaper:
    """Trims, levels and fades one sentence that comes in stretches.

    The silence before its first sound is cut to 8 ms, that after its last to 40 ms. Speech is where
    the level of a 5 ms window is within 40 dB of the loudest one so far and above -60 dBFS. What
    may be the end is held back until more comes, some ms at least.

    Args:
        rate_hz: of the engine.
        loudness: the voice's running loudness: it gives this sentence its gain, and learns from it.
        pause_ms: silence before the sentence; see `pause_after_ms`. 0 at the start of an utterance.
    """

    def __init__(
        self, rate_hz: int, loudness: LoudnessNormaliser, *, pause_ms: float = 0.0
    ) -> None:
        self._rate_hz = rate_hz
        self._loudness = loudness
        self._gain = np.float32(10 ** (loudness.gain_db / 20))
        self._fade_in = rate_hz * _FADE_IN_MS // 1000
        self._pause = round(pause_ms * rate_hz / 1000)
        self._step = max(1, rate_hz // 1000)
        self._window = rate_hz * _WINDOW_MS // 1000
        self._raw = _NOTHING
        """All that was rendered."""
        self._loudest = 0.0
        self._start = -1
        """Where in `raw` the first sound is let in; -1 before it has come."""
        self._end = 0
        """Where the last sound so far ends."""
        self._given = 0
        """Up to where `raw` was given."""

    def push(self, audio: Audio, *, last: bool = False) -> Audio:
        """Take the next stretch, shape (n,); give what is ready to play, possibly nothing."""
        begins = len(self._raw) // self._window * self._window
        self._raw = np.concatenate([self._raw, audio])
        if last:
            self._loudness.learn(self._raw)
        first, end = self._voiced(begins)
        self._end = max(self._end, end)
        if self._start < 0:
            if end == 0:
                return _NOTHING
            self._start = self._given = max(0, first - self._rate_hz * _LEAD_MS // 1000)
        if last:
            ready = min(len(self._raw), self._end + self._rate_hz * _TAIL_MS // 1000)
        else:
            # the limiter looks ahead, and works in steps of a millisecond
            ahead = LIMITER_REACH_MS * self._step
            ready = min(self._end, len(self._raw) - ahead) - self._start
            ready = self._start + ready // self._step * self._step
            if ready < self._start + self._fade_in:
                return _NOTHING
        return self._take(ready, last=last) if ready > self._given else _NOTHING

    def position(self, raw: int) -> int:
        """Where in what was given a sample of the rendered sentence is, the pause included."""
        return max(0, raw - max(0, self._start)) + self._pause

    def _voiced(self, begins: int) -> tuple[int, int]:
        """Start and end of the sound in the windows from sample `begins` on; 0, 0 without any."""
        windows = self._raw[begins : len(self._raw) // self._window * self._window]
        if windows.size == 0:
            return 0, 0
        power = (windows.reshape(-1, self._window).astype(np.float64) ** 2).mean(axis=1)
        self._loudest = max(self._loudest, float(power.max()))
        threshold = max(self._loudest * 10 ** (_THRESHOLD_DB / 10), 1e-6)
        voiced = np.flatnonzero(power > threshold)
        if voiced.size == 0:
            return 0, 0
        first, last = int(voiced[0]), int(voiced[-1]) + 1
        return begins + first * self._window, begins + last * self._window

    def _take(self, ready: int, *, last: bool) -> Audio:
        reach = LIMITER_REACH_MS * self._step
        before = min(reach, self._given - self._start)
        after = ready if last else ready + reach
        levelled = limit(self._raw[self._given - before : after] * self._gain, self._rate_hz)
        result: Audio = np.array(levelled[before : before + ready - self._given], np.float32)
        if self._given == self._start:
            n = min(result.size, self._fade_in)
            result[:n] *= _rise(n)
            result = np.concatenate([np.zeros(self._pause, np.float32), result])
        if last:
            n = min(result.size, self._rate_hz * _FADE_OUT_MS // 1000)
            result[result.size - n :] *= _rise(n)[::-1]
        self._given = ready
        return result


def pause_after_ms(text: str) -> float:
    """The pause that the punctuation at the end of a text asks for."""
    mark = text.rstrip(_CLOSERS)[-1:]
    if mark and mark in ".!?…。！？":
        return _SENTENCE_PAUSE_MS
    if mark and mark in ",;:，；：、–—":
        return _CLAUSE_PAUSE_MS
    return _WORD_PAUSE_MS


def going_on(text: str) -> str:
    """The text with a comma where it breaks off, so that the voice does not fall as at an end."""
    return f"{text}," if text[-1:].isalnum() else text


def _rise(n: int) -> Audio:
    """Raised cosine from 0 towards 1."""
    rise: Audio = (0.5 - 0.5 * np.cos(np.pi * np.arange(n) / max(1, n))).astype(np.float32)
    return rise

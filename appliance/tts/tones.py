"""Tones in place of speech: something was answered, although no voice is there to say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from appliance.tts.engine import Audio, Rendered

_RATE_HZ = 22_050
_NOTE_MS = 160
_DECAY_MS = 60
_RISE_MS = 8
_PEAK = 0.3
_STATEMENT_HZ = (659.3, 523.3)
"""E5, C5: falls, as a sentence does."""
_QUESTION_HZ = (523.3, 659.3)


class TonesEngine:
    """`TtsEngine` without any voice: two soft notes for each text, rising for a question.

    It tells no words, so that nothing counts as said.
    """

    problem = ""

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return _RATE_HZ

    @property
    def language(self) -> str:
        """See `TtsEngine.language`; any text has the same tones."""
        return ""

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`; one stretch."""
        if cancelled() or not any(symbol.isalnum() for symbol in text):
            return
        asks = text.rstrip().endswith(("?", "？"))
        notes = [note(frequency_hz) for frequency_hz in (_QUESTION_HZ if asks else _STATEMENT_HZ)]
        yield Rendered(np.concatenate(notes), ends_sentence=True)

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`; there is nothing to wait for."""

    def close(self) -> None:
        """See `TtsEngine.close`."""


def note(
    frequency_hz: float,
    rate_hz: int = _RATE_HZ,
    *,
    length_ms: int = _NOTE_MS,
    decay_ms: float = _DECAY_MS,
) -> Audio:
    """A note that is struck and dies away, with its octave: shape (n,), in [-1, 1]."""
    seconds = np.arange(rate_hz * length_ms // 1000) / rate_hz
    tone = np.sin(2 * np.pi * frequency_hz * seconds)
    tone += 0.25 * np.sin(4 * np.pi * frequency_hz * seconds)
    rise = np.minimum(1.0, 1000 * seconds / _RISE_MS)
    fall = np.minimum(1.0, 1000 * (seconds[-1] - seconds) / _RISE_MS)
    struck: Audio = (_PEAK * tone * rise * fall * np.exp(-1000 * seconds / decay_ms)).astype(
        np.float32
    )
    return struck

"""Words while they are spoken: what successive hearings of a growing utterance agree on.

LocalAgreement-2 (Macháček, Dabre and Bojar 2023, https://arxiv.org/abs/2307.14743): a word is
committed when two hearings in a row say it in the same place. Audio before committed words is
let go at a quiet moment, so that an utterance costs the same per second however long it grows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.asr.features import SAMPLE_RATE_HZ
from appliance.asr.transcriber import Transcriber, Utterance
from appliance.asr.words import HeardWord, Vocabulary, align, text_of

_LONG_S = 10.0
"""A window this long is heard in the shortest context; above it audio is let go."""
_MAX_WINDOW_S = 28.0
_KEPT_S = 2.0
"""So much of a window stays at least: its words may still change."""
_LEAD_S = 0.3
"""A hearing begins so long before the first word that counts: Whisper is deaf for a moment."""
_UNFINISHED_S = 0.2
"""The end of the audio may be half a word."""
_TIMING_S = 0.2
"""How far word times may be off."""
_SAME_WORD_S = 0.3
_PROMPT_LETTERS = 200
_BLOCK = SAMPLE_RATE_HZ // 100
_SMOOTH_BLOCKS = 5
_SILENCE_BLOCKS = 3
_ABOVE_FLOOR_DB = 4.0
_BELOW_SPEECH_DB = 40.0


class Agreement:
    """The words of one utterance: committed ones, and a tail that may still change. Pure."""

    def __init__(self) -> None:
        self.committed: list[HeardWord] = []
        self.tail: tuple[HeardWord, ...] = ()
        self.settled = 0
        """So many committed words are in audio that is not heard again."""
        self.from_s = 0.0
        """Where the audio begins that still is."""

    def fresh(self, words: Sequence[HeardWord]) -> tuple[HeardWord, ...]:
        """Return ``words`` of a new hearing without those that are settled already."""
        last = self.committed[self.settled - 1] if self.settled else None
        for index, word in enumerate(words):
            again = (
                last is not None
                and word.bare == last.bare
                and abs(word.end_s - last.end_s) < _SAME_WORD_S
            )
            if word.end_s > self.from_s and not again:
                return tuple(words[index:])
        return ()

    def take(self, words: Sequence[HeardWord], heard_s: float) -> None:
        """Take a hearing of the audio from ``from_s`` to ``heard_s``; times from the beginning.

        One that contradicts most of what is committed changes nothing.
        """
        words = self.fresh(words)
        open_words = self.committed[self.settled :]
        found = align(open_words, words, from_s=self.from_s)
        if 2 * len(found.agreed) < len(open_words):
            return
        rest = words[found.repeated :]
        agreed = 0
        for before, now in zip(self.tail, rest, strict=False):
            if before.bare != now.bare or now.end_s > heard_s - _UNFINISHED_S:
                break
            agreed += 1
        self.committed += rest[:agreed]
        self.tail = tuple(rest[agreed:])

    def boundaries(self) -> list[tuple[int, float, float]]:
        """Return where audio may be let go: committed words before it, and between which times."""
        return [
            (
                index,
                self.committed[index - 1].end_s - _TIMING_S,
                self.committed[index].start_s + _TIMING_S,
            )
            for index in range(self.settled + 1, len(self.committed))
        ]

    def settle(self, words: int, from_s: float) -> None:
        """Never hear the first ``words`` committed ones again, nor the audio before ``from_s``."""
        self.settled, self.from_s = words, from_s


@dataclass(frozen=True, slots=True)
class Partial:
    """The words so far."""

    stable: str
    """Further audio will not change them."""
    tail: str
    heard_s: float
    """Audio behind them."""


@dataclass(frozen=True, slots=True)
class Final:
    """The words of an utterance."""

    text: str
    avg_logprob: float
    corrections: tuple[tuple[str, str], ...] = ()
    """What was heard and what the vocabulary made of it."""
    reused: bool = False
    """A partial had heard it all already."""


class LiveUtterance:
    """One utterance, heard while it lasts. Always given all its audio so far, from the beginning.

    Not thread-safe.
    """

    def __init__(self, transcriber: Transcriber, vocabulary: Vocabulary | None = None) -> None:
        self._transcriber = transcriber
        self._vocabulary = vocabulary
        self._agreement = Agreement()
        self._heard_samples = 0
        self._heard: Final | None = None
        """What the first so many samples gave."""

    def partial(
        self,
        samples: NDArray[np.float32],
        *,
        prompt: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Partial:
        """Hear the utterance so far (mono, 16 kHz). A hearing that looks wrong is not believed.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true; nothing has changed.
        """
        agreement = self._agreement
        heard_s = len(samples) / SAMPLE_RATE_HZ
        if heard_s - agreement.from_s <= _MAX_WINDOW_S:
            window, start_s = self._window(samples)
            heard = self._transcriber.glimpse(
                window, prompt=self._prompt(prompt), cancelled=cancelled
            )
            if heard is not None:
                self._take(heard, start_s, len(samples))
                self._let_go(samples)
        return Partial(
            stable=self._correct(agreement.committed)[0],
            tail=self._correct(agreement.tail)[0],
            heard_s=heard_s,
        )

    def final(
        self,
        samples: NDArray[np.float32],
        *,
        prompt: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Final:
        """Return the words of the whole utterance; hears only what is not settled.

        If a partial has heard it all and only silence came since, nothing is heard again.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true.
        """
        if self._heard and only_silence_since(samples, self._heard_samples):
            return replace(self._heard, reused=True)
        window, start_s = self._window(samples)
        heard = self._transcriber.transcribe(
            window,
            prompt=self._prompt(prompt),
            words=self._vocabulary is not None or self._agreement.settled > 0,
            cancelled=cancelled,
        )
        return self._take(heard, start_s, len(samples))

    def _take(self, heard: Utterance, start_s: float, samples: int) -> Final:
        """Take a hearing of the window from ``start_s`` to ``samples``; return all words."""
        agreement = self._agreement
        text = heard.text
        corrections: tuple[tuple[str, str], ...] = ()
        if heard.words or agreement.settled:
            words = [word.later(start_s) for word in heard.words]
            settled = agreement.committed[: agreement.settled]
            text, corrections = self._correct([*settled, *agreement.fresh(words)])
            agreement.take(words, samples / SAMPLE_RATE_HZ)
        final = Final(text, heard.avg_logprob, corrections)
        if text:
            self._heard, self._heard_samples = final, samples
        return final

    def _window(self, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Return the audio to hear, a moment of what was before included, and its start."""
        start = max(0, round((self._agreement.from_s - _LEAD_S) * SAMPLE_RATE_HZ))
        return samples[start:], start / SAMPLE_RATE_HZ

    def _prompt(self, hint: str) -> str:
        """Return the hint, and the settled words last: they came just before the window."""
        settled = text_of(self._agreement.committed[: self._agreement.settled])
        return f"{hint} {settled[-_PROMPT_LETTERS:]}".strip()

    def _correct(self, words: Sequence[HeardWord]) -> tuple[str, tuple[tuple[str, str], ...]]:
        if self._vocabulary is None:
            return text_of(words), ()
        corrected = self._vocabulary.correct(words)
        return corrected.text, corrected.corrections

    def _let_go(self, samples: NDArray[np.float32]) -> None:
        """Cut a long window at the quietest moment between two committed words."""
        agreement = self._agreement
        heard_s = len(samples) / SAMPLE_RATE_HZ
        if heard_s - agreement.from_s <= _LONG_S or not self._transcriber.knows_times:
            return
        first_s = agreement.from_s
        levels_db = smoothed_levels_db(samples[round(first_s * SAMPLE_RATE_HZ) :], _SMOOTH_BLOCKS)
        best: tuple[float, int, float] | None = None
        for words, after_s, before_s in agreement.boundaries():
            first, last = round(100 * (after_s - first_s)), round(100 * (before_s - first_s))
            between = levels_db[max(0, first) : max(0, last)]
            if before_s > heard_s - _KEPT_S or not between.size:
                continue
            quietest = int(np.argmin(between))
            cut_s = first_s + (max(0, first) + quietest) / 100
            best = min(best or (np.inf, 0, 0.0), (float(between[quietest]), words, cut_s))
        if best is not None:
            agreement.settle(best[1], best[2])


def smoothed_levels_db(samples: NDArray[np.float32], blocks: int) -> NDArray[np.float64]:
    """Return the level every 10 ms, over ``blocks`` of them around it."""
    count = len(samples) // _BLOCK
    if count == 0:
        return np.zeros(0)
    power = np.mean(np.square(samples[: count * _BLOCK]).reshape(-1, _BLOCK), axis=1)
    smooth = np.convolve(power, np.full(blocks, 1.0 / blocks), mode="same")
    return np.asarray(10.0 * np.log10(smooth + 1e-10), np.float64)


def only_silence_since(samples: NDArray[np.float32], heard: int) -> bool:
    """Return whether nobody speaks in ``samples[heard:]``: as quiet as the utterance's pauses."""
    if len(samples) < heard:
        return False
    levels_db = smoothed_levels_db(samples, _SILENCE_BLOCKS)
    rest = levels_db[max(0, heard // _BLOCK - 1) :]
    if not rest.size:
        return True
    quiet_db = max(
        float(np.percentile(levels_db, 5)) + _ABOVE_FLOOR_DB,
        float(np.percentile(levels_db, 95)) - _BELOW_SPEECH_DB,
    )
    return bool(np.max(rest) <= quiet_db)

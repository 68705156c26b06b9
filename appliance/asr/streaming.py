"""Words while they are spoken: what successive hearings of a growing utterance agree on.

LocalAgreement-2 (Macháček, Dabre and Bojar 2023, https://arxiv.org/abs/2307.14743): a word is
committed when two hearings in a row say it in the same place. Audio before committed words is
let go at a quiet moment, so that an utterance costs the same per second however long it grows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.asr.features import SAMPLE_RATE_HZ
from appliance.asr.pieces import levels_db
from appliance.asr.transcriber import Transcriber, Utterance
from appliance.asr.words import Acoustics, Corrected, HeardWord, Vocabulary, align, text_of

_LONG_S = 10.0
"""A window this long is heard in the shortest context; above it audio is let go."""
_MAX_WINDOW_S = 28.0
_LEAST_KEPT_S, _MOST_KEPT_S = 2.0, 7.0
"""What stays of a long window: its last words may still change, and context helps."""
_PAUSE_BELOW_DB = 25.0
"""So far below the loud parts one moment is as good as another."""
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
        """Take the fresh words of a hearing of the audio from ``from_s`` to ``heard_s``.

        Their times count from the beginning. A hearing that contradicts most of what is committed
        changes nothing.
        """
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
        result = []
        for index in range(self.settled + 1, len(self.committed)):
            before, after = self.committed[index - 1 : index + 1]
            earliest_s = max(before.middle_s, before.end_s - _TIMING_S)
            result.append((index, earliest_s, min(after.middle_s, after.start_s + _TIMING_S)))
        return result

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


@dataclass(frozen=True, slots=True)
class _Hearing:
    """The words of the window, settled ones left out, and how much audio they were heard in."""

    samples: int
    words: tuple[HeardWord, ...]
    avg_logprob: float


class LiveUtterance:
    """One utterance, heard while it lasts. Always given all its audio so far, from the beginning.

    Not thread-safe.
    """

    def __init__(self, transcriber: Transcriber, vocabulary: Vocabulary | None = None) -> None:
        self._transcriber = transcriber
        self._vocabulary = vocabulary
        self._agreement = Agreement()
        self._latest: _Hearing | None = None

    def partial(
        self,
        samples: NDArray[np.float32],
        *,
        dialogue: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Partial:
        """Hear the utterance so far (mono, 16 kHz). A hearing that looks wrong is not believed.

        ``dialogue`` is what the appliance said before, for the vocabulary.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true; nothing has changed.
        """
        agreement = self._agreement
        heard_s = len(samples) / SAMPLE_RATE_HZ
        if heard_s - agreement.from_s <= _MAX_WINDOW_S:
            window, start_s = self._window(samples)
            heard = self._transcriber.glimpse(
                window, prompt=self._prompt(dialogue), cancelled=cancelled
            )
            if heard is not None:
                self._take(heard, start_s, len(samples))
                self._let_go(samples)
        return Partial(
            stable=self._correct(agreement.committed, dialogue).text,
            tail=self._correct(agreement.tail, dialogue).text,
            heard_s=heard_s,
        )

    def final(
        self,
        samples: NDArray[np.float32],
        *,
        dialogue: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Final:
        """Return the words of the whole utterance; hears only what is not settled.

        If a partial has heard it all and only silence came since, nothing is heard again.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true.
        """
        window, start_s = self._window(samples)
        settled = self._agreement.committed[: self._agreement.settled]
        latest = self._latest
        reused = latest is not None and only_silence_since(samples, latest.samples)
        if latest is None or not reused:
            heard = self._transcriber.transcribe(
                window,
                prompt=self._prompt(dialogue),
                words=self._vocabulary is not None or bool(settled),
                cancelled=cancelled,
            )
            if self._vocabulary is None and not settled:
                return Final(heard.text, heard.avg_logprob)
            latest = self._take(heard, start_s, len(samples))
        before = self._correct(settled, dialogue)
        words = self._agreement.fresh(latest.words)  # some may have been settled since
        after = self._correct(words, dialogue, self._transcriber.acoustics(window))
        return Final(
            text=f"{before.text} {after.text}".strip(),
            avg_logprob=latest.avg_logprob,
            corrections=before.corrections + after.corrections,
            reused=reused,
        )

    def _take(self, heard: Utterance, start_s: float, samples: int) -> _Hearing:
        """Take a hearing of the window that begins at ``start_s``."""
        words = self._agreement.fresh([word.later(start_s) for word in heard.words])
        self._agreement.take(words, samples / SAMPLE_RATE_HZ)
        hearing = _Hearing(samples, words, heard.avg_logprob)
        self._latest = hearing if words else None
        return hearing

    def _window(self, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Return the audio to hear, a moment of what was before included, and its start."""
        start = max(0, round((self._agreement.from_s - _LEAD_S) * SAMPLE_RATE_HZ))
        return samples[start:], start / SAMPLE_RATE_HZ

    def _prompt(self, dialogue: str) -> str:
        """Return the vocabulary's, then the settled words: they came just before the window."""
        hint = self._vocabulary.prompt(dialogue) if self._vocabulary else ""
        settled = text_of(self._agreement.committed[: self._agreement.settled])
        return f"{hint} {settled[-_PROMPT_LETTERS:]}".strip()

    def _correct(
        self, words: Sequence[HeardWord], dialogue: str, acoustics: Acoustics | None = None
    ) -> Corrected:
        if self._vocabulary is None or not words:
            return Corrected(tuple(words))
        return self._vocabulary.correct(words, dialogue, acoustics)

    def _let_go(self, samples: NDArray[np.float32]) -> None:
        """Cut a long window at the quietest moment between two committed words."""
        agreement = self._agreement
        heard_s = len(samples) / SAMPLE_RATE_HZ
        if heard_s - agreement.from_s <= _LONG_S or not self._transcriber.knows_times:
            return
        first_s = agreement.from_s
        levels = levels_db(samples[round(first_s * SAMPLE_RATE_HZ) :], _SMOOTH_BLOCKS)
        pause_db = float(np.percentile(levels, 95)) - _PAUSE_BELOW_DB
        cuts = []
        for words, earliest_s, latest_s in agreement.boundaries():
            first, last = round(100 * (earliest_s - first_s)), round(100 * (latest_s - first_s))
            between = levels[max(0, first) : max(0, last)]
            if between.size and latest_s <= heard_s - _LEAST_KEPT_S:
                quietest = int(np.argmin(between))
                cut_s = first_s + (max(0, first) + quietest) / 100
                cuts.append((max(pause_db, float(between[quietest])), cut_s, words))
        near = [cut for cut in cuts if cut[1] >= heard_s - _MOST_KEPT_S]
        if cuts:
            _, cut_s, words = min(near or cuts)
            agreement.settle(words, cut_s)


def only_silence_since(samples: NDArray[np.float32], heard: int) -> bool:
    """Return whether nobody speaks in ``samples[heard:]``: as quiet as the utterance's pauses."""
    if len(samples) < heard:
        return False
    levels = levels_db(samples, _SILENCE_BLOCKS)
    rest = levels[heard // _BLOCK + 1 :]  # the level before it reaches over what was heard
    if not rest.size:
        return True
    quiet_db = max(
        float(np.percentile(levels, 5)) + _ABOVE_FLOOR_DB,
        float(np.percentile(levels, 95)) - _BELOW_SPEECH_DB,
    )
    return bool(np.max(rest) <= quiet_db)

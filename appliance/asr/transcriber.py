"""From the samples of an utterance to its words: the fast way first, the sure way on doubt.

Doubt costs another hearing with a little more context; only if that one disagrees, the full one. A
hearing that stops before the speech does is gone on with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import AligningEngine, AsrEngine, Context, Timings, Transcription
from appliance.asr.features import FULL_FRAMES, SAMPLE_RATE_HZ, context_frames
from appliance.asr.guard import (
    Verdict,
    is_confirmed,
    is_invented,
    is_lost,
    is_suspect,
    judge,
    spoken_text,
    spoken_words,
)
from appliance.asr.pieces import MAX_PIECE_S, finite, split_at_pauses, unheard_from
from appliance.asr.words import Acoustics, HeardWord, mean_logprob, splice, text_of

_SURE_LOGPROB = -0.5
_MOST_STEPS = 6
"""How often a hearing that stopped early is gone on with."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The words of an utterance and how they came about."""

    text: str
    """In single spaces; empty if nothing was said."""
    avg_logprob: float
    """Of the least certain piece; NaN where the engine does not tell."""
    no_speech_prob: float
    """Of the first piece."""
    retries: int
    """How often pieces were heard again with more context."""
    suspect: bool
    """Some piece still looks wrong, retried or not."""
    timings: Timings
    """Summed over pieces and retries."""
    words: tuple[HeardWord, ...] = ()
    """The text word by word; may be empty where it was not asked for."""

    def later(self, seconds: float) -> "Utterance":
        """Return the same in audio that begins so much earlier."""
        return replace(self, words=tuple(word.later(seconds) for word in self.words))


_NOTHING = Utterance("", 0.0, 0.0, 0, False, Timings(0.0, 0.0, 0.0))


class Transcriber:
    """An engine with the guard above it; any length of audio."""

    def __init__(
        self, engine: AsrEngine, *, language: str = "en", context: Context = "cut"
    ) -> None:
        """Use ``engine``; ``context`` "full" spares nothing and never retries."""
        self._engine = engine
        self._language = language
        self._context = context

    @property
    def knows_times(self) -> bool:
        """Whether words come with the times at which they were said, or with guesses."""
        return isinstance(self._engine, AligningEngine)

    def transcribe(
        self,
        samples: NDArray[np.float32],
        *,
        prompt: str = "",
        words: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Utterance:
        """Return the words in ``samples`` (mono, 16 kHz, any length).

        ``prompt`` is text that came before. ``words`` asks for each word's time and probability.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true.
            ApplianceError: the model does not know the language.
        """
        samples = finite(samples)
        pieces = list(split_at_pauses(samples))
        if len(pieces) == 1:
            return self._walk(samples, prompt, words, True, cancelled) or _NOTHING
        utterance = _NOTHING
        for piece in pieces:
            part = self._walk(samples[piece.start : piece.end], prompt, True, True, cancelled)
            later = (part or _NOTHING).later(piece.start / SAMPLE_RATE_HZ)
            utterance = _join(utterance, later, overlaps=piece.overlaps)
            prompt = ""
        return utterance

    def glimpse(
        self,
        samples: NDArray[np.float32],
        *,
        prompt: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Utterance | None:
        """Return the words in at most 29 s of ``samples``, word by word; None if in doubt.

        For words that are asked for again soon: nothing is heard twice.

        Raises:
            TranscriptionCancelledError: ``cancelled`` returned true.
        """
        return self._walk(finite(samples), prompt, True, False, cancelled)

    def acoustics(self, samples: NDArray[np.float32]) -> Acoustics | None:
        """Return audio of at most 29 s that can be asked again; None if it cannot."""
        fits = len(samples) <= MAX_PIECE_S * SAMPLE_RATE_HZ
        if not fits or not isinstance(self._engine, AligningEngine):
            return None
        return _Acoustics(self._engine, finite(samples), self._language, self._context)

    def _walk(
        self,
        samples: NDArray[np.float32],
        prompt: str,
        words: bool,
        sure: bool,
        cancelled: Callable[[], bool],
    ) -> Utterance | None:
        """Hear ``samples`` to the end; None if in doubt that ``sure`` would have resolved."""
        parts: list[Utterance] = []
        start = 0
        while len(parts) < _MOST_STEPS:
            rest = samples[start:] if start else samples
            part = self._hear_surely(rest, prompt, words or self.knows_times, sure, cancelled)
            if part is None:
                return None
            parts.append(part.later(start / SAMPLE_RATE_HZ))
            unheard = unheard_from(rest, part.words) if self.knows_times else None
            if unheard is None:
                break
            start += unheard
            prompt = ""
        return reduce(_join, parts)

    def _hear_surely(
        self,
        samples: NDArray[np.float32],
        prompt: str,
        words: bool,
        sure: bool,
        cancelled: Callable[[], bool],
    ) -> Utterance | None:
        heard = self._hear(samples, self._context, prompt, words, cancelled)
        verdict = judge(heard, samples, self._context if sure else "cut")
        if verdict is Verdict.RETRY and self._merely_stopped(heard, samples):
            verdict = Verdict.OK
        retries, timings = 0, heard.timings
        while verdict is Verdict.RETRY:
            if not sure:
                return None
            context: Context = "wide" if not retries and _has_wide(samples) else "full"
            again = self._hear(samples, context, "", words, cancelled)
            verdict = judge(again, samples, context)
            confirmed = is_confirmed(heard, again, len(samples) / SAMPLE_RATE_HZ)
            if verdict is Verdict.RETRY and confirmed:
                verdict = Verdict.OK
            elif verdict is Verdict.OK and is_invented(heard, again):
                verdict = Verdict.NOTHING_SAID  # whatever it was, these are not its words
            heard, retries, timings = again, retries + 1, timings + again.timings
        return replace(_utterance(heard, verdict, samples), retries=retries, timings=timings)

    def _merely_stopped(self, heard: Transcription, samples: NDArray[np.float32]) -> bool:
        """Whether the words are good and only that they end there is doubtful."""
        return (
            self.knows_times
            and not is_lost(heard, len(samples) / SAMPLE_RATE_HZ)
            and mean_logprob(heard.words) > _SURE_LOGPROB
            and unheard_from(samples, heard.words) is not None
        )

    def _hear(
        self,
        samples: NDArray[np.float32],
        context: Context,
        prompt: str,
        words: bool,
        cancelled: Callable[[], bool],
    ) -> Transcription:
        return self._engine.transcribe(
            samples,
            language=self._language,
            context=context,
            prompt=prompt,
            words=words,
            cancelled=cancelled,
        )


@dataclass(frozen=True, slots=True)
class _Acoustics:
    """See ``Acoustics``. Nothing is encoded again of what the engine heard last."""

    engine: AligningEngine
    samples: NDArray[np.float32]
    language: str
    context: Context

    def hear(self, prompt: str) -> tuple[HeardWord, ...]:
        return self.engine.transcribe(
            self.samples, language=self.language, context=self.context, prompt=prompt, words=True
        ).words

    def score(self, texts: Sequence[str], prompt: str) -> list[float]:
        return self.engine.score(
            self.samples, texts, language=self.language, context=self.context, prompt=prompt
        )


def _utterance(heard: Transcription, verdict: Verdict, samples: NDArray[np.float32]) -> Utterance:
    said = verdict is not Verdict.NOTHING_SAID
    return Utterance(
        text=spoken_text(heard.text) if said else "",
        avg_logprob=heard.avg_logprob,
        no_speech_prob=heard.no_speech_prob,
        retries=0,
        suspect=said and is_suspect(heard, len(samples) / SAMPLE_RATE_HZ),
        timings=heard.timings,
        words=spoken_words(heard.words) if said else (),
    )


def _has_wide(samples: NDArray[np.float32]) -> bool:
    """Return whether a wide context is less than a full one."""
    return context_frames(len(samples), "wide") < FULL_FRAMES


def _join(earlier: Utterance, later: Utterance, *, overlaps: bool = False) -> Utterance:
    """Return two consecutive parts of an utterance as one."""
    if not earlier.text:
        words, text = later.words, later.text
    elif overlaps:
        words = splice(earlier.words, later.words)
        text = text_of(words)
    else:
        words, text = earlier.words + later.words, f"{earlier.text} {later.text}".strip()
    first = later if earlier is _NOTHING else earlier
    return Utterance(
        text=text,
        words=words,
        avg_logprob=min(earlier.avg_logprob, later.avg_logprob),
        no_speech_prob=first.no_speech_prob,
        retries=earlier.retries + later.retries,
        suspect=earlier.suspect or later.suspect,
        timings=earlier.timings + later.timings,
    )

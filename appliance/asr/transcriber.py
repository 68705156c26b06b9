"""From the samples of an utterance to its words: the fast way first, the sure way on doubt.

Doubt costs another hearing with a little more context; only if that one disagrees, the full one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.asr.engine import AligningEngine, AsrEngine, Context, Timings, Transcription
from appliance.asr.features import FULL_FRAMES, SAMPLE_RATE_HZ, context_frames
from appliance.asr.guard import Verdict, is_confirmed, is_suspect, judge, spoken_text, spoken_words
from appliance.asr.words import Acoustics, HeardWord, splice, text_of

_MAX_PIECE_S = 29.0
_SEARCH_S = 8.0
"""A piece ends somewhere in its last stretch of this length."""
_PAUSE_S = 0.2
_PAUSE_DROP_DB = 20.0
"""A pause is this far below the loud parts; a cut anywhere else needs an overlap."""
_OVERLAP_S = 1.0
_RETRIES = (Verdict.RETRY_WIDE, Verdict.RETRY_FULL)
_MAX_AMPLITUDE = 100.0
"""Full scale is 1."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a long recording, in samples."""

    start: int
    end: int
    overlaps: bool
    """Its beginning repeats the end of the piece before."""


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
    """The text word by word; empty unless it was asked for."""


class Transcriber:
    """An engine with the guard above it; any length of audio."""

    def __init__(
        self, engine: AsrEngine, *, language: str = "en", context: Context = "cut"
    ) -> None:
        """Use ``engine``; ``context`` "full" spares nothing and never retries."""
        self._engine = engine
        self._language = language
        self._context = context

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
        utterance = Utterance("", 0.0, 0.0, 0, False, Timings(0.0, 0.0, 0.0))
        samples = finite(samples)
        pieces = list(split_at_pauses(samples))
        if len(pieces) == 1:
            return self._piece(samples, prompt, words, cancelled)
        for piece in pieces:
            part = self._piece(samples[piece.start : piece.end], prompt, True, cancelled)
            later = [word.later(piece.start / SAMPLE_RATE_HZ) for word in part.words]
            said = splice(utterance.words, later) if piece.overlaps else (*utterance.words, *later)
            utterance = Utterance(
                text=text_of(said),
                words=said,
                avg_logprob=min(part.avg_logprob, utterance.avg_logprob),
                no_speech_prob=utterance.no_speech_prob if piece.start else part.no_speech_prob,
                retries=utterance.retries + part.retries,
                suspect=utterance.suspect or part.suspect,
                timings=utterance.timings + part.timings,
            )
            prompt = ""
        return utterance

    @property
    def knows_times(self) -> bool:
        """Whether words come with the times at which they were said, or with guesses."""
        return isinstance(self._engine, AligningEngine)

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
        samples = finite(samples)
        heard = self._hear(samples, self._context, prompt, True, cancelled)
        verdict = judge(heard, samples, "cut")
        return None if verdict in _RETRIES else _utterance(heard, verdict, samples)

    def acoustics(self, samples: NDArray[np.float32]) -> Acoustics | None:
        """Return audio of at most 29 s that can be asked again; None if it cannot."""
        fits = len(samples) <= _MAX_PIECE_S * SAMPLE_RATE_HZ
        if not fits or not isinstance(self._engine, AligningEngine):
            return None
        return _Acoustics(self._engine, finite(samples), self._language, self._context)

    def _piece(
        self,
        samples: NDArray[np.float32],
        prompt: str,
        words: bool,
        cancelled: Callable[[], bool],
    ) -> Utterance:
        heard = self._hear(samples, self._context, prompt, words, cancelled)
        verdict = judge(heard, samples, self._context)
        retries, timings = 0, heard.timings
        while verdict in _RETRIES:
            wide = verdict is Verdict.RETRY_WIDE and not retries and _has_wide(samples)
            context: Context = "wide" if wide else "full"
            again = self._hear(samples, context, "", words, cancelled)
            verdict = judge(again, samples, context)
            if verdict in _RETRIES and is_confirmed(heard, again, len(samples) / SAMPLE_RATE_HZ):
                verdict = Verdict.OK
            heard, retries, timings = again, retries + 1, timings + again.timings
        return replace(_utterance(heard, verdict, samples), retries=retries, timings=timings)

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


def finite(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``samples`` with silence where they are no sound: one NaN spoils every feature."""
    good = np.abs(samples) <= _MAX_AMPLITUDE
    return samples if good.all() else np.where(good, samples, np.float32(0.0))


def split_at_pauses(samples: NDArray[np.float32]) -> Iterator[Piece]:
    """Cut audio into pieces that Whisper can hear at once, in pauses where there are any.

    Together the pieces hold every sample. Where no pause is found the pieces overlap by two
    seconds around the quietest moment.
    """
    start, overlaps = 0, False
    max_samples = round(_MAX_PIECE_S * SAMPLE_RATE_HZ)
    overlap = round(_OVERLAP_S * SAMPLE_RATE_HZ)
    while len(samples) - start > max_samples:
        latest = start + max_samples - overlap
        cut, in_pause = _quietest(samples[start:latest])
        cut += start
        yield Piece(start, cut if in_pause else cut + overlap, overlaps)
        start, overlaps = (cut, False) if in_pause else (cut - overlap, True)
    if start < len(samples):
        yield Piece(start, len(samples), overlaps)


def _quietest(samples: NDArray[np.float32]) -> tuple[int, bool]:
    """Return the middle of the quietest 200 ms in the last 8 s, and whether that is a pause."""
    block = SAMPLE_RATE_HZ // 100
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    power = np.mean(np.square(blocks, dtype=np.float32), axis=1)
    width = round(_PAUSE_S * 100)
    smooth = np.convolve(power, np.full(width, 1.0 / width), mode="valid")
    first = max(0, len(smooth) - round(_SEARCH_S * 100))
    quietest = first + int(np.argmin(smooth[first:]))
    loud = float(np.percentile(power, 90))
    in_pause = float(smooth[quietest]) <= loud * 10 ** (-_PAUSE_DROP_DB / 10)
    return (quietest + width // 2) * block, in_pause

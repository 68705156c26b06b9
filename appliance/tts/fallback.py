"""Speech that goes on when a voice cannot be loaded or fails: the next one speaks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import soxr

from appliance.errors import ApplianceError
from appliance.tts.engine import Rendered, TtsEngine, TtsError

logger = logging.getLogger(__name__)

_MOST_FAILURES = 3
"""Texts in a row that a voice may fail to speak before it is given up."""


class FallbackEngine:
    """`TtsEngine` that speaks with the first of several voices that can.

    A text with which a voice fails before its first sound is spoken by the next voice. The sample
    rate and the language stay those of the voice that was loaded first.

    Args:
        voices: how to load each voice, the best first; the next one is loaded when it is needed.

    Raises:
        TtsError: none of them could be loaded.
    """

    def __init__(self, voices: Sequence[Callable[[], TtsEngine]]) -> None:
        self._voices = list(voices)
        self._failures = 0
        self.problem = ""
        """Why it is not the first voice that speaks; empty when it is."""
        self._engine = self._load()
        self._rate_hz, self._language = self._engine.rate_hz, self._engine.language
        self._spare: TtsEngine | None = None

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return self._rate_hz

    @property
    def language(self) -> str:
        """See `TtsEngine.language`."""
        return self._language

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`."""
        has_begun = False
        engine = self._engine
        try:
            for rendered in engine.synthesise(text, cancelled=cancelled, speed=speed):
                has_begun = True
                yield at_rate(rendered, engine.rate_hz, self._rate_hz)
            self._failures = 0
        except TtsError as error:
            spare = self._note_failure(error)
            if has_begun or spare is None:
                raise
            for rendered in spare.synthesise(text, cancelled=cancelled, speed=speed):
                yield at_rate(rendered, spare.rate_hz, self._rate_hz)

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`."""
        self._engine.interrupt()
        if self._spare is not None:
            self._spare.interrupt()

    def close(self) -> None:
        """See `TtsEngine.close`."""
        self._engine.close()
        if self._spare is not None:
            self._spare.close()

    def _load(self) -> TtsEngine:
        while self._voices:
            try:
                return self._voices.pop(0)()
            except ApplianceError as error:
                self.problem = str(error)
                logger.error("going on with a simpler voice: %s", error)
        raise TtsError(self.problem or "there is no voice: set [tts] engine")

    def _note_failure(self, error: TtsError) -> TtsEngine | None:
        """The voice to speak instead, if there is one."""
        logger.error("the voice failed: %s", error)
        self._failures += 1
        try:
            self._spare = self._spare or self._load()
        except TtsError:
            return None
        spare = self._spare
        if self._failures >= _MOST_FAILURES:
            self.problem = str(error)
            self._engine.close()
            self._engine, self._spare, self._failures = spare, None, 0
        return spare


def at_rate(rendered: Rendered, rate_hz: int, wanted_hz: int) -> Rendered:
    """What one voice rendered, at another one's sample rate."""
    if rate_hz == wanted_hz:
        return rendered
    samples = soxr.resample(rendered.samples, rate_hz, wanted_hz)
    ends = tuple(end * wanted_hz // rate_hz for end in rendered.word_ends)
    return Rendered(samples, rendered.ends_sentence, ends)

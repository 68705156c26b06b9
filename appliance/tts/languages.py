"""A voice for each language: a Chinese word in an English answer is said by a Chinese voice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.speech_text.scripts import language_of, runs
from appliance.tts.engine import Rendered, TtsEngine
from appliance.tts.fallback import at_rate

ENGLISH, CHINESE = "en-us", "cmn"
"""As espeak-ng names them."""
_CHINESE = ("cmn", "yue", "zh")
_IDEOGRAPHS_TOO = ("ja",)
"""Languages whose writing has Chinese characters in it."""


def espeak_name(tag: str) -> str:
    """What espeak-ng calls a language, by its BCP 47 tag."""
    base, _, region = tag.lower().partition("-")
    if base in _CHINESE:
        return "yue" if base == "yue" else CHINESE
    if base in ("", "*"):
        return ENGLISH
    return f"{base}-{region}" if base == "en" and region in ("us", "gb") else base


def other_language(language: str) -> str:
    """The language of the voice that says what one of this language cannot; empty: none does."""
    base = language.partition("-")[0]
    if base in _IDEOGRAPHS_TOO:
        return ""
    return ENGLISH if base in _CHINESE else CHINESE


def by_voice(text: str, language: str) -> list[tuple[str, str]]:
    """Divide a text among the voices that say it: [(language of the voice, text)].

    Args:
        text: anything.
        language: of the voice that is configured; it says whatever is not for the other one.
    """
    other = other_language(language)
    if not other:
        return [(language, text)]
    default, foreign = ("zh", "en") if other == ENGLISH else ("en", "zh")
    return [(other if kind == foreign else language, part) for kind, part in runs(text, default)]


class LanguagesEngine:
    """`TtsEngine` of two voices, the second for what the first one cannot say.

    Args:
        engine: the voice that is configured.
        load_other: loads a voice of the language that it is given, when that is needed.
    """

    def __init__(self, engine: TtsEngine, load_other: Callable[[str], TtsEngine]) -> None:
        self._engine = engine
        self._load_other = load_other
        self._other: TtsEngine | None = None
        self._other_language = other_language(engine.language)

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return self._engine.rate_hz

    @property
    def language(self) -> str:
        """See `TtsEngine.language`."""
        return self._engine.language

    @property
    def problem(self) -> str:
        """See `TtsEngine.problem`."""
        return self._engine.problem or (self._other.problem if self._other else "")

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`; for a text that `by_voice` gave."""
        engine = self._voice_for(text)
        for rendered in engine.synthesise(text, cancelled=cancelled, speed=speed):
            yield at_rate(rendered, engine.rate_hz, self.rate_hz)

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`."""
        self._engine.interrupt()
        if self._other:
            self._other.interrupt()

    def close(self) -> None:
        """See `TtsEngine.close`."""
        self._engine.close()
        if self._other:
            self._other.close()

    def _voice_for(self, text: str) -> TtsEngine:
        default, foreign = ("zh", "en") if self._other_language == ENGLISH else ("en", "zh")
        if not self._other_language or language_of(text, default) != foreign:
            return self._engine
        self._other = self._other or self._load_other(self._other_language)
        return self._other

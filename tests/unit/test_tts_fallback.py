"""A voice that fails is replaced; without any voice there are tones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from appliance.errors import ApplianceError
from appliance.tts.engine import Rendered, TtsEngine, TtsError, create_tts_engine
from appliance.tts.fallback import FallbackEngine
from appliance.tts.tones import TonesEngine


def never() -> bool:
    return False


class Voice:
    """Gives one sentence of 100 samples, until it is told to fail."""

    language = "en-us"
    problem = ""

    def __init__(self, level: float = 0.5, rate_hz: int = 1000) -> None:
        self.rate_hz = rate_hz
        self.level = level
        self.fails_after = 1_000
        self.closed = False

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        for number in range(2):
            if number >= self.fails_after:
                raise TtsError("broken")
            samples = np.full(100, self.level, np.float32)
            yield Rendered(samples, number == 1, word_ends=(100,))

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def missing() -> TtsEngine:
    raise ApplianceError("the voice file is missing")


def levels(engine: TtsEngine) -> list[float]:
    return [
        round(float(rendered.samples.max()), 1)
        for rendered in engine.synthesise("Hello.", cancelled=never)
    ]


def test_the_first_voice_that_loads_speaks() -> None:
    engine = FallbackEngine([missing, lambda: Voice(0.3), missing])
    assert levels(engine) == [0.3, 0.3]
    assert engine.problem == "the voice file is missing"
    assert FallbackEngine([Voice]).problem == ""
    with pytest.raises(TtsError, match="missing"):
        FallbackEngine([missing])


def test_a_text_that_a_voice_cannot_speak_is_spoken_by_the_next() -> None:
    voice, spare = Voice(0.5), Voice(0.2, rate_hz=500)
    engine = FallbackEngine([lambda: voice, lambda: spare])
    voice.fails_after = 0
    said = list(engine.synthesise("Hello.", cancelled=never))
    assert [rendered.samples.size for rendered in said] == [200, 200], "at the first voice's rate"
    assert [rendered.word_ends for rendered in said] == [(200,), (200,)]
    voice.fails_after = 1_000
    assert levels(engine) == [0.5, 0.5], "one failure is no reason to give it up"
    assert not voice.closed


def test_a_voice_that_fails_again_and_again_is_given_up() -> None:
    voice = Voice(0.5)
    engine = FallbackEngine([lambda: voice, lambda: Voice(0.2)])
    voice.fails_after = 0
    for _ in range(3):
        assert levels(engine) == [0.2, 0.2]
    assert voice.closed
    voice.fails_after = 1_000
    assert levels(engine) == [0.2, 0.2]
    assert engine.problem == "broken"


def test_what_was_begun_is_not_said_twice() -> None:
    voice = Voice()
    voice.fails_after = 1
    engine = FallbackEngine([lambda: voice, lambda: Voice(0.2)])
    with pytest.raises(TtsError, match="broken"):
        levels(engine)


def test_the_last_voice_has_nothing_behind_it() -> None:
    voice = Voice()
    voice.fails_after = 0
    engine = FallbackEngine([lambda: voice])
    with pytest.raises(TtsError, match="broken"):
        levels(engine)


def test_tones_fall_for_a_statement_and_rise_for_a_question() -> None:
    engine = create_tts_engine("tones")
    assert isinstance(engine, TonesEngine)
    for text, rises in (("It is Rome.", False), ("Which one?", True), ("你好吗？", True)):
        (rendered,) = engine.synthesise(text, cancelled=never)
        assert rendered.ends_sentence
        assert rendered.word_ends == (), "nothing was said"
        assert rendered.samples.dtype == np.float32
        assert 0.1 < np.abs(rendered.samples).max() < 0.5
        assert np.abs(rendered.samples[[0, -1]]).max() < 1e-3, "no click"
        first, second = np.split(rendered.samples, 2)
        pitches = [np.abs(np.fft.rfft(note)).argmax() for note in (first, second)]
        assert bool(pitches[1] > pitches[0]) is rises
    assert list(engine.synthesise("...", cancelled=never)) == []
    assert list(engine.synthesise("Hello", cancelled=lambda: True)) == []

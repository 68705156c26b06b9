"""Words while they are spoken, with an engine that reads them off a script."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.asr.engine import (
    Context,
    EngineName,
    Timings,
    Transcription,
    TranscriptionCancelledError,
)
from appliance.asr.hearings import Hearings, missing
from appliance.asr.streaming import Agreement, LiveUtterance, only_silence_since
from appliance.asr.transcriber import Transcriber
from appliance.asr.words import Acoustics, Corrected, HeardWord, from_tokens, spread, text_of
from appliance.messages import Span

RATE = 16_000
WORD_S, GAP_S = 0.4, 0.1


@dataclass
class Reader:
    """Hears word n of an endless script in audio whose level is n; may be told to mishear."""

    name: EngineName = "ctranslate2"
    jitter_s: float = 0.0
    misheard: Callable[[int], bool] = lambda call: False
    doubtful: Callable[[int], bool] = lambda call: False
    stops_at_pauses: bool = False
    hears_words: int = 1000
    sure: bool = False
    """From now on nothing is misheard."""
    asked_s: list[float] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)

    def transcribe(
        self,
        samples: np.ndarray,
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
        words: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcription:
        if cancelled():
            raise TranscriptionCancelledError
        call = len(self.asked_s)
        audio_s = len(samples) / RATE
        self.asked_s.append(audio_s)
        self.prompts.append(prompt)
        self.contexts.append(context)
        heard = list(self._words(samples, call))
        wrong = self.doubtful(call) and context == "cut"
        return Transcription(
            text_of(heard),
            (),
            -0.55 if wrong else -0.1,
            0.01,
            True,
            Timings(0.0, 1.0, 0.0),
            self._timed(heard, audio_s) if words else (),
        )

    def _words(self, samples: np.ndarray, call: int):
        numbers = np.round(samples / LEVEL).astype(int)
        edges = np.flatnonzero(np.diff(numbers, prepend=0, append=0))
        rng = np.random.default_rng(call)
        heard, last_end = 0, 0
        for begin, end in pairwise(edges):
            number = int(numbers[begin])
            if number and end - begin >= 0.5 * WORD_S * RATE:  # less than half a word is not heard
                paused = last_end and begin - last_end > 0.4 * RATE
                if (self.stops_at_pauses and paused) or heard == self.hears_words:
                    return
                heard, last_end = heard + 1, end
                wrong = self.misheard(call) and not self.sure and rng.random() < 0.3
                text = "wrong" if wrong else spelt(number)
                off_s = rng.uniform(-self.jitter_s, self.jitter_s, 2)
                start_s = max(0.0, begin / RATE + off_s[0])
                yield HeardWord(text, 0.9, start_s, max(start_s, end / RATE + off_s[1]))

    def _timed(self, heard: Sequence[HeardWord], audio_s: float) -> tuple[HeardWord, ...]:
        pieces = [f" {word.text}".encode() for word in heard]
        return from_tokens(pieces, [0.9] * len(pieces), spread(pieces, audio_s), audio_s)


@dataclass
class TimingReader(Reader):
    """The same, but it knows when a word was said."""

    scored: list[str] = field(default_factory=list)

    def _timed(self, heard: Sequence[HeardWord], audio_s: float) -> tuple[HeardWord, ...]:
        return tuple(heard)

    def score(
        self,
        samples: np.ndarray,
        texts: Sequence[str],
        *,
        language: str = "en",
        context: Context = "full",
        prompt: str = "",
    ) -> list[float]:
        self.scored += texts
        return [-1.0 for _ in texts]


LEVEL = 1e-3


def spelt(number: int) -> str:
    """A word of its own for each number."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:8]


def spoken(count: int, *, pause_every: int = 7, pause_s: float = 0.5) -> np.ndarray:
    """``count`` words after 300 ms of silence, some pauses, 100 ms of silence."""
    parts = [np.zeros(int(0.3 * RATE))]
    for number in range(1, count + 1):
        pause = pause_s if number % pause_every == 0 else GAP_S
        parts += [np.full(int(WORD_S * RATE), number * LEVEL), np.zeros(int(pause * RATE))]
    return np.concatenate(parts).astype(np.float32)


def script(count: int) -> str:
    return " ".join(spelt(number) for number in range(1, count + 1))


def listen(live: LiveUtterance, audio: np.ndarray, step_s: float = 0.333) -> list[str]:
    """Hear the audio as it comes; return what was stable after each hearing."""
    ends = np.arange(0.55 * RATE, len(audio), step_s * RATE)
    return [live.partial(audio[: int(end)]).stable for end in ends]


# --- agreement ---------------------------------------------------------------------------------


def at(text: str, start_s: float = 0.0) -> list[HeardWord]:
    return [
        HeardWord(word, 0.9, start_s + 0.5 * i, start_s + 0.5 * i + 0.4)
        for i, word in enumerate(text.split())
    ]


def test_what_two_hearings_agree_on_is_committed():
    agreement = Agreement()
    agreement.take(at("turn on the"), 1.5)
    assert (text_of(agreement.committed), text_of(agreement.tail)) == ("", "turn on the")
    agreement.take(at("Turn on, the light"), 2.0)
    assert text_of(agreement.committed) == "Turn on, the"
    assert text_of(agreement.tail) == "light"


def test_what_they_disagree_on_is_not():
    agreement = Agreement()
    agreement.take(at("turn on the lie"), 2.5)
    agreement.take(at("turn on the light"), 2.6)
    assert text_of(agreement.committed) == "turn on the"


def test_half_a_word_at_the_end_of_the_audio_is_not_committed():
    agreement = Agreement()
    agreement.take(at("we go to"), 1.5)
    agreement.take(at("we go to"), 1.5)
    assert text_of(agreement.committed) == "we go"


def test_a_hearing_that_contradicts_what_is_committed_changes_nothing():
    agreement = Agreement()
    for _ in range(2):
        agreement.take(at("please turn on the light in"), 9.0)
    agreement.take(at("thanks for watching and see you soon"), 9.0)
    assert text_of(agreement.committed) == "please turn on the light in"


# --- a whole utterance -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [Reader(), TimingReader()])
def test_stable_words_grow_and_the_final_has_all(engine):
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(12)
    stable = listen(live, audio)
    assert stable == sorted(stable, key=len)
    assert script(12).startswith(stable[-1])
    assert len(stable[-1].split()) >= 9
    assert live.final(audio).text == script(12)


@settings(max_examples=8, deadline=None)
@given(
    count=st.integers(1, 80),
    pause_every=st.integers(1, 40),
    jitter_s=st.floats(0.0, 0.08),
    seed=st.integers(0, 99),
)
def test_no_word_is_lost_or_doubled_however_the_hearings_err(count, pause_every, jitter_s, seed):
    rng = np.random.default_rng(seed)
    wrong, doubtful = rng.random((2, 1000)) < 0.2
    engine = TimingReader(
        jitter_s=jitter_s,
        misheard=lambda call: bool(wrong[call]),
        doubtful=lambda call: bool(doubtful[call]),
    )
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(count, pause_every=pause_every)
    listen(live, audio)
    engine.sure = True
    said, right = live.final(audio).text.split(), script(count).split()
    assert len(said) == len(right)
    assert [a == b or a == "wrong" for a, b in zip(said, right, strict=True)] == [True] * count


def test_a_hearing_that_stops_early_is_gone_on_with():
    """At the first pause the engine falls silent; what follows is asked for by itself."""
    engine = TimingReader(stops_at_pauses=True)
    transcriber = Transcriber(engine)
    audio = noisy(spoken(15, pause_every=5, pause_s=0.6), level=1e-5)
    assert transcriber.transcribe(audio).text == script(15)
    assert set(engine.contexts) == {"cut"}
    live = LiveUtterance(transcriber)
    assert script(15).startswith(listen(live, audio)[-1])
    assert live.final(audio).text == script(15)


def test_an_engine_that_hears_next_to_nothing_is_not_asked_for_ever():
    engine = TimingReader(hears_words=1)
    utterance = Transcriber(engine).transcribe(noisy(spoken(50), level=1e-5))
    assert utterance.text == " ".join(script(50).split()[:6])
    assert len(engine.asked_s) <= 6


def test_ten_minutes_cost_the_same_per_second_and_lose_nothing():
    count = 1150
    engine = TimingReader()
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(count)
    assert len(audio) > 600 * RATE
    listen(live, audio, step_s=2.5)
    assert live.final(audio).text == script(count)
    assert max(engine.asked_s) < 15.0
    assert max(len(prompt) for prompt in engine.prompts) <= 200
    assert engine.prompts[-1] in script(count)


def test_without_word_times_a_long_utterance_loses_nothing_either():
    engine = Reader()
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(150)
    listen(live, audio, step_s=1.0)
    assert live.final(audio).text == script(150)
    assert max(engine.asked_s) <= 29.0


def test_doubtful_hearings_are_not_believed_and_the_final_is_heard_again():
    engine = TimingReader(doubtful=lambda call: True)
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(6)
    assert set(listen(live, audio)) == {""}
    assert set(engine.contexts) == {"cut"}
    assert live.final(audio).text == script(6)
    assert engine.contexts[-2:] == ["cut", "wide"]


def test_cancelled_partial_changes_nothing():
    live = LiveUtterance(Transcriber(TimingReader()))
    audio = spoken(8)
    listen(live, audio[: 2 * RATE])
    with pytest.raises(TranscriptionCancelledError):
        live.partial(audio, cancelled=lambda: True)
    with pytest.raises(TranscriptionCancelledError):
        live.final(audio, cancelled=lambda: True)
    assert live.final(audio).text == script(8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_no_numbers_are_silence(bad):
    live = LiveUtterance(Transcriber(TimingReader()))
    audio = spoken(4)
    audio[100:200] = bad
    listen(live, audio)
    assert live.final(audio).text == script(4)


def test_no_audio_is_no_words():
    live = LiveUtterance(Transcriber(TimingReader()))
    empty = np.zeros(0, np.float32)
    assert live.partial(empty).stable == ""
    assert live.final(empty).text == ""


# --- the final without another hearing ---------------------------------------------------------


def noisy(audio: np.ndarray, level: float = 1e-4) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(audio)) * level
    return np.asarray(audio + noise, np.float32)


def test_a_partial_that_heard_everything_is_the_final():
    engine = TimingReader()
    live = LiveUtterance(Transcriber(engine))
    audio = spoken(5, pause_every=5, pause_s=0.3)
    live.partial(audio[: -int(0.25 * RATE)])
    calls = len(engine.asked_s)
    final = live.final(audio)
    assert (final.text, final.reused, len(engine.asked_s)) == (script(5), True, calls)


def test_a_word_since_the_partial_is_heard():
    live = LiveUtterance(Transcriber(TimingReader()))
    live.partial(spoken(5))
    final = live.final(spoken(6))
    assert (final.text, final.reused) == (script(6), False)


def test_silence_is_judged_by_the_utterance_s_own_pauses():
    t = np.arange(2 * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 3 * t) > -0.5)
    silence = np.zeros(RATE // 4)
    audio = noisy(np.concatenate((silence, tone, silence)))
    end = len(silence) + len(tone)
    assert only_silence_since(audio, end)
    assert not only_silence_since(audio, end - RATE // 2)
    sibilant = audio.copy()
    sibilant[end + 800 : end + 1600] *= 12.0  # 60 ms of a soft s
    assert not only_silence_since(sibilant, end)
    assert not only_silence_since(audio[: end - RATE], end)  # less audio than was heard


# --- vocabulary --------------------------------------------------------------------------------


class Names:
    """A vocabulary that knows one name, and notes what it is asked."""

    def __init__(self) -> None:
        self.dialogues: set[str] = set()
        self.scores: list[float] = []

    def prompt(self, dialogue: str) -> str:
        self.dialogues.add(dialogue)
        return "Names."

    def correct(
        self,
        words: Sequence[HeardWord],
        dialogue: str = "",
        acoustics: Acoustics | None = None,
    ) -> Corrected:
        self.dialogues.add(dialogue)
        if acoustics:
            self.scores += acoustics.score([text_of(words)], "Names.")
            assert text_of(acoustics.hear("")) == text_of(words)
        mended = tuple(
            HeardWord("Anna", *_rest(word)) if word.text == spelt(2) else word for word in words
        )
        corrections = ((spelt(2), "Anna"),) if mended != tuple(words) else ()
        return Corrected(mended, corrections)


def _rest(word: HeardWord) -> tuple[float, float, float]:
    return word.probability, word.start_s, word.end_s


def test_the_vocabulary_prompts_and_mends_partials_and_the_final():
    engine, names = TimingReader(), Names()
    live = LiveUtterance(Transcriber(engine), names)
    audio = spoken(6)
    for end_s in (2.0, 2.3):
        partial = live.partial(audio[: int(end_s * RATE)], dialogue="Who?")
    assert "Anna" in partial.stable
    final = live.final(audio, dialogue="Who?")
    assert final.text == script(6).replace(spelt(2), "Anna")
    assert final.corrections == ((spelt(2), "Anna"),)
    assert names.dialogues == {"Who?"}
    assert names.scores == [-1.0]
    assert set(engine.prompts[:-1]) == {"Names."}


def test_an_engine_that_cannot_be_asked_again_is_not():
    names = Names()
    live = LiveUtterance(Transcriber(Reader()), names)
    assert "Anna" in live.final(spoken(6)).text
    assert names.scores == []


# --- audio from the ring -----------------------------------------------------------------------


def test_only_what_is_new_of_an_utterance_is_missing():
    first = (Span(1, 10, 19),)
    assert missing((), first) == first
    assert missing(first, (Span(1, 10, 25),)) == (Span(1, 20, 25),)
    assert missing(first, first) == ()
    assert missing(first, (Span(1, 10, 21), Span(2, 0, 4))) == (Span(1, 20, 21), Span(2, 0, 4))


@pytest.mark.parametrize("other", [(), (Span(1, 10, 15),), (Span(1, 12, 30),), (Span(2, 10, 30),)])
def test_what_does_not_continue_an_utterance_is_told(other):
    assert missing((Span(1, 10, 19),), other) is None


class Ring:
    """Block n of any epoch holds the number n."""

    def __init__(self) -> None:
        self.blocks_read = 0

    def read(self, spans: Sequence[Span]) -> tuple[np.ndarray, int]:
        numbers = [n for span in spans for n in range(span.first, span.last + 1)]
        self.blocks_read += len(numbers)
        return np.repeat(np.array(numbers, np.float32), 160), 0


def hearings(ring: Ring) -> Hearings:
    return Hearings(ring.read, lambda: LiveUtterance(Transcriber(TimingReader())))


def test_an_utterance_is_read_once_and_grows():
    ring = Ring()
    kept = hearings(ring)
    before = kept.extend("a", (Span(1, 0, 99),))
    after = kept.extend("a", (Span(1, 0, 149),))
    assert after is before
    assert ring.blocks_read == 150
    np.testing.assert_array_equal(after.samples[::160], np.arange(150))


def test_another_beginning_is_another_hearing():
    kept = hearings(Ring())
    before = kept.extend("a", (Span(1, 0, 99),))
    after = kept.extend("a", (Span(1, 50, 149),))
    assert after.live is not before.live
    np.testing.assert_array_equal(after.samples[::160], np.arange(50, 150))


def test_old_utterances_are_forgotten():
    kept = hearings(Ring())
    first = kept.extend("a", (Span(1, 0, 9),))
    for name in "bc":
        kept.extend(name, (Span(1, 20, 29),))
    assert kept.extend("a", (Span(1, 0, 9),)) is not first
    assert kept.extend("", (Span(1, 0, 9),)) is not kept.extend("", (Span(1, 0, 9),))


def test_level_of_nothing_is_no_number():
    assert only_silence_since(np.zeros(0, np.float32), 0)
    assert not math.isnan(LiveUtterance(Transcriber(Reader())).final(np.zeros(9)).avg_logprob)

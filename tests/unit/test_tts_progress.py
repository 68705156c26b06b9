"""Which words were heard, and the parts that tell: word ends, schedule, cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tts.cache import CachedEngine
from appliance.tts.engine import Rendered
from appliance.tts.progress import Progress, SpokenWord
from appliance.tts.schedule import Want, most_urgent
from appliance.tts.words import by_weight, characters, share_out

WORDS = [SpokenWord(word, 100.0 * n) for n, word in enumerate(("one", "two", "three"), 1)]


@pytest.mark.parametrize(
    ("played_ms", "text"),
    [(0, ""), (70, ""), (80, "one"), (199, "one two"), (270, "one two"), (280, "one two three")],
)
def test_a_word_counts_when_most_of_it_was_played(played_ms: float, text: str) -> None:
    progress = Progress()
    progress.queued("a", 300.0, WORDS)
    assert progress.ended("a", played_ms) == text


def test_words_that_are_told_late_count_and_parts_of_words_do_not() -> None:
    progress = Progress()
    progress.queued("a", 200.0)
    assert progress.ended("a", 200.0) == ""
    progress.queued("b", 200.0)
    progress.queued("b", 100.0, [SpokenWord("", 150.0), SpokenWord("donaudampf", 300.0)])
    assert progress.ended("b", np.inf) == "donaudampf"


def test_what_is_written_without_spaces_stays_so() -> None:
    progress = Progress()
    parts = characters("你好，Tom！今天25度。", 0.0, 700.0)
    assert [part for part, _ in parts] == ["你", "好，", "Tom！", "今", "天", "25", "度。"]
    assert [end_ms for _, end_ms in parts] == [100.0 * n for n in range(1, 8)]
    words = [SpokenWord(part, end_ms, joined=n > 0) for n, (part, end_ms) in enumerate(parts)]
    for name in "ab":
        progress.queued(name, 1000.0, [SpokenWord("Hm.", 0.0), *words, SpokenWord("是", 800.0)])
    assert progress.ended("a", 390.0) == "Hm. 你好，Tom！今"
    assert progress.ended("b", 2000.0) == "Hm. 你好，Tom！今天25度。 是"


@given(st.text(min_size=1, max_size=30).filter(lambda text: not any(map(str.isspace, text))))
def test_no_character_is_lost_and_the_last_one_ends_with_the_word(word: str) -> None:
    parts = characters(word, 100.0, 200.0)
    assert "".join(part for part, _ in parts) == word
    ends = [end_ms for _, end_ms in parts]
    assert ends == sorted(ends)
    assert ends[-1] == 200.0
    assert ends[0] > 100.0


def test_a_piece_is_played_when_all_of_it_was_and_never_before_it_is_complete() -> None:
    progress = Progress()
    progress.queued("a", 100.0)
    assert progress.newly_played("a", 100.0) == []
    progress.piece_complete("a", 0)
    progress.queued("a", 50.0)
    progress.piece_complete("a", 1)
    assert progress.newly_played("a", 99.0) == []
    assert progress.newly_played("a", 120.0) == [0]
    assert progress.newly_played("a", 150.0) == [1]
    assert progress.newly_played("a", 150.0) == []


@given(
    st.lists(st.integers(0, 30), max_size=30), st.lists(st.integers(1, 60), min_size=1, max_size=5)
)
def test_every_word_ends_once_and_in_order(words: list[int], sentences: list[int]) -> None:
    shared = share_out(words, sentences)
    assert sum(map(len, shared)) == len(words)
    for ends, sounds in zip(shared, sentences, strict=True):
        assert ends == sorted(ends)
        assert all(0 <= end <= sounds for end in ends)
    if words and sum(words) == sum(sentences):
        offsets = np.cumsum([0, *sentences[:-1]])
        absolute = [
            offset + end for offset, ends in zip(offsets, shared, strict=True) for end in ends
        ]
        assert absolute == list(np.cumsum(words))


def test_unknown_words_end_by_their_share_of_the_sound() -> None:
    tone = np.sin(np.arange(8_000) * 0.3).astype(np.float32)
    audio = np.concatenate([tone, np.zeros(8_000, np.float32), tone])
    ends = by_weight([5, 5, 10], audio, 16_000)
    assert np.abs(np.array(ends) - [4_000, 8_000, 24_000]).max() <= 320
    assert by_weight([], audio, 16_000) == ()
    assert len(by_weight([0, 0], np.zeros(100, np.float32), 16_000)) == 2


def want(name: str, *, held: bool = False, begun: bool = True, ahead_ms: float = 2000.0) -> Want:
    return Want(name, held, begun, ahead_ms)


@pytest.mark.parametrize(
    ("wants", "first"),
    [
        ([], None),
        ([want("a", ahead_ms=6000)], None),
        ([want("a", ahead_ms=100), want("b", begun=False, ahead_ms=0)], "a"),
        ([want("a", ahead_ms=900), want("b", begun=False, ahead_ms=0)], "b"),
        ([want("a"), want("b", held=True, begun=False, ahead_ms=0)], "b"),
        ([want("a", held=True), want("b", ahead_ms=5000)], "b"),
        ([want(name, held=True, begun=False, ahead_ms=0) for name in "ab"], "b"),
        ([want(name, begun=False, ahead_ms=0) for name in "ab"], "a"),
        ([want("a", held=True, begun=False, ahead_ms=0), want("b", begun=False)], "b"),
        ([want("a", held=True, ahead_ms=5000)], "a"),
    ],
)
def test_the_most_urgent_goes_first(wants: list[Want], first: str | None) -> None:
    assert most_urgent(wants, 6000.0) == first


class Counter:
    """A voice of 1000 samples a word that counts its work."""

    rate_hz, language, problem = 16_000, "en-us", ""

    def __init__(self) -> None:
        self.spoken: list[str] = []

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        self.spoken.append(text)
        for word in text.split():
            if cancelled():
                return
            yield Rendered(np.zeros(1000, np.float32), word.endswith("."))

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def never() -> bool:
    return False


def say(engine: CachedEngine, text: str, cancelled: Callable[[], bool] = never) -> int:
    return len(list(engine.synthesise(text, cancelled=cancelled)))


def test_short_texts_are_synthesised_once() -> None:
    voice = Counter()
    engine = CachedEngine(voice)
    for _ in range(3):
        assert say(engine, "I see.") == 2
        assert say(engine, "This one is too long to keep.") == 7
    assert voice.spoken.count("I see.") == 1
    assert voice.spoken.count("This one is too long to keep.") == 3


def test_what_was_cut_off_is_not_remembered() -> None:
    voice = Counter()
    engine = CachedEngine(voice)
    answers = iter([False, True])
    say(engine, "I see.", lambda: next(answers, True))
    next(engine.synthesise("One two.", cancelled=never))
    assert say(engine, "I see.") == say(engine, "One two.") == 2
    assert not engine.prepare("No more.", cancelled=lambda: True)
    assert voice.spoken.count("I see.") == 2


def test_the_cache_is_bounded_and_keeps_what_was_prepared() -> None:
    voice = Counter()
    engine = CachedEngine(voice, most_bytes=10 * 4000)
    assert engine.prepare("One moment.", cancelled=never)
    for n in range(50):
        say(engine, f"Number {n}.")
        say(engine, "Often.")
    assert voice.spoken.count("Often.") == 1
    say(engine, "One moment.")
    assert voice.spoken.count("One moment.") == 1
    say(engine, "Number 0.")
    assert voice.spoken.count("Number 0.") == 2

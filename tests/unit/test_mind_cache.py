"""Answers are kept only where they are true for everyone, at any time, and only so many bytes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.mind.cache import CachedAnswer, CacheKey, ResponseCache, is_lasting, normalise


def key(question: str = "what is the capital of italy", **other: str) -> CacheKey:
    return CacheKey(normalise(question), **{"model": "m", "persona": "p", **other})


def put(cache: ResponseCache, at: CacheKey, text: str = "Rome.", audio: bytes = b"") -> bool:
    return cache.put(at, CachedAnswer(text, audio), in_dialogue=False, has_memory=False)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Italy?",
        "How many legs does a spider have?",
        "Who wrote Hamlet?",
        "意大利的首都是哪里？",
        "蜘蛛有几条腿？",
    ],
)
def test_what_everyone_is_told_is_kept(question: str) -> None:
    assert is_lasting(question, in_dialogue=False, has_memory=False)
    assert not is_lasting(question, in_dialogue=True, has_memory=False)
    assert not is_lasting(question, in_dialogue=False, has_memory=True)


@pytest.mark.parametrize(
    "question",
    [
        "What is my name?",
        "What do you know about me?",
        "What's the time?",
        "What is the weather in Rome?",
        "Is it raining?",
        "Who is the president of France?",
        "And its population?",
        "How long ago was that?",
        "What day is it today?",
        "I'm hungry, what should I eat?",
        "Tell me a joke",
        "我叫什么名字？",
        "现在几点？",
        "今天天气怎么样？",
        "它有多大？",
        "",
        "?!",
    ],
)
def test_what_is_personal_or_passes_is_not(question: str) -> None:
    assert not is_lasting(question, in_dialogue=False, has_memory=False)
    cache = ResponseCache(1000)
    assert not put(cache, key(question))
    assert cache.get(key(question)) is None
    assert cache.statistics.refused == 1


def test_how_it_was_heard_does_not_matter() -> None:
    assert normalise(" What’s the Capital,  of ITALY?! ") == normalise(
        "what's the capital of italy"
    )


@pytest.mark.parametrize("change", ["model", "persona", "context"])
def test_another_model_persona_or_context_has_its_own_answer(change: str) -> None:
    cache = ResponseCache(1000)
    assert put(cache, key())
    assert cache.get(key(**{change: "other"})) is None
    assert cache.get(key()) == CachedAnswer("Rome.")
    assert (cache.statistics.hits, cache.statistics.misses) == (1, 1)
    assert cache.statistics.hit_rate == 0.5


def test_a_new_answer_takes_the_place_of_the_old_one_and_forgetting_frees_all() -> None:
    cache = ResponseCache(1000)
    put(cache, key(), audio=bytes(500))
    put(cache, key(), "It is Rome.", audio=bytes(600))
    assert cache.get(key()) == CachedAnswer("It is Rome.", bytes(600))
    assert len(cache) == 1
    cache.forget([key()])
    assert (len(cache), cache.size) == (0, 0)
    assert not put(cache, key(), audio=bytes(2000)), "larger than all there is"
    assert not put(cache, key(), " "), "nothing to say"


SIZES = st.none() | st.integers(0, 700)
QUESTIONS = [f"what is fact number {n}" for n in range(8)]


@given(
    st.integers(0, 2000),
    st.lists(
        st.tuples(
            st.sampled_from(QUESTIONS), st.sampled_from("abc"), st.none() | st.integers(0, 700)
        )
    ),
)
def test_it_is_bounded_and_drops_what_was_used_longest_ago(
    most: int, steps: list[tuple[str, str, int | None]]
) -> None:
    cache = ResponseCache(most)
    model: OrderedDict[CacheKey, CachedAnswer] = OrderedDict()
    for question, name, size in steps:
        at = key(question, model=name)
        if size is None:
            assert cache.get(at) == model.get(at)
            if at in model:
                model.move_to_end(at)
        elif cache.put(at, CachedAnswer(name, bytes(size)), in_dialogue=False, has_memory=False):
            model.pop(at, None)
            model[at] = CachedAnswer(name, bytes(size))
            while len(model) > len(cache):
                model.popitem(last=False)
        assert cache.size <= most
        assert sum(answer.size for answer in model.values()) <= cache.size

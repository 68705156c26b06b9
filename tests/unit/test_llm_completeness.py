"""Whether a question is complete, by its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.llm.completeness import ending_tokens, last_word, probability_of
from appliance.llm.llama_cpp import LlamaCppEngine
from appliance.llm.prompt import conversation
from appliance.messages import ChatMessage

NAME = "smollm2-135m"
MODEL = Path(__file__).parents[2] / "models" / NAME / "SmolLM2-135M-Instruct.Q4_1.gguf"
END = 9
PIECES = {1: b"What", 2: b" is", 3: b"?", 4: b"...", 5: b"\xc3", 6: b"\n"}


def found(prompt: list[int]) -> int | None:
    return last_word(prompt, lambda token: token == END, PIECES.__getitem__)


def test_the_last_word_stands_before_the_punctuation() -> None:
    assert found([1, 2, END, 1, 2, 3, END, 6]) == 4
    assert found([1, 2, 4, 3, END]) == 1
    assert found([1, 5, END]) == 1  # half a character is none of the marks


def test_without_words_there_is_none() -> None:
    assert found([1, END, 3, 4, END]) is None
    assert found([1, 2]) is None


def test_endings_are_single_tokens_and_those_that_exist() -> None:
    vocabulary = {".": [7], "?": [8], "!": [7, 7], "\n": [6]}
    tokens = ending_tokens(lambda text: vocabulary.get(text, [1, 2]), [END, -1])
    assert tokens.tolist() == [6, 7, 8, END]


def test_probability_is_the_share_of_the_endings() -> None:
    logits = np.log(np.array([1.0, 2.0, 5.0, 2.0], np.float32))
    assert probability_of(np.array([0, 2]), logits) == pytest.approx(0.6)
    assert probability_of(np.array([0]), np.full(2, 1e4, np.float32)) == pytest.approx(0.5)


@pytest.mark.models
def test_a_whole_question_is_told_from_a_half_one() -> None:
    engine = LlamaCppEngine(MODEL, NAME, n_ctx=512, n_threads=1, n_threads_batch=1)
    history = [
        ChatMessage("user", "How many inches are there in a foot?"),
        ChatMessage("assistant", "Twelve."),
    ]

    def complete(question: str) -> float:
        messages = conversation(history, question)
        list(engine.generate(messages, max_tokens=1, cancelled=lambda: False))
        probability = engine.stats.question_complete
        assert probability is not None
        return probability

    try:
        for half, whole in (
            ("Can you tell me", "Can you tell me how many legs a beetle has"),
            ("What is the capital of", "What is the capital of Portugal"),
            ("How do you say", "How do you say good morning in French"),
        ):
            # the recogniser's marks do not count: it makes them of the pause
            assert complete(half) == pytest.approx(complete(f"{half}?"), rel=0.2)
            assert complete(whole) > 10 * complete(f"{half}.")
        engine.warm(conversation(history, "How do you say"))
        ahead = complete("How do you say")
        assert ahead == pytest.approx(complete("How do you say..."), rel=0.2)
    finally:
        engine.close()

"""What it saves that a conversation was read before its next question: time to the first token."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from appliance.llm.engine import LlmEngine
from appliance.llm.prompt import before_question, opening
from appliance.messages import ChatMessage

TURNS = 20
_ROUNDS = 3
_PLACES = (
    *("Norway", "Sweden", "Denmark", "Finland", "Iceland", "Ireland", "Scotland", "Wales"),
    *("Portugal", "Spain", "France", "Belgium", "Austria", "Poland", "Hungary", "Greece"),
    *("Turkey", "Egypt", "Kenya", "Chile"),
)
_THERE = "one.of.two"
_HERE = "two.of.two"


def first_token_warm_against_cold(engine: LlmEngine, model: str = "") -> dict[str, float]:
    """The twentieth question of a conversation, with what came before it read, and with nothing.

    Args:
        engine: with room for some 1100 tokens; what it has read is lost.
        model: its name, on which its instructions depend.

    Returns:
        ``warm_ms``, ``cold_ms``: medians of the time to the first token of the same question;
        ``alternating_ms``: the same when another conversation, as long, had its turn in between;
        ``ratio``, ``alternating_ratio``: against ``cold_ms``; ``prompt_tokens``: of the whole
        prompt; ``new_tokens``: of the question.
    """
    opened = opening("", model)
    here = _conversation(opened, "What is the capital of {}?", "I would have to look that up.")
    there = _conversation(opened, "Is it warm in {} in May?", "That depends on the year.")
    question = "And which of these is the largest?"
    warm, cold, alternating = [], [], []
    tokens = new = 0
    for _ in range(_ROUNDS):
        engine.warm((ChatMessage("system", "."),), session_id=_HERE)  # forgets what it has read
        cold.append(_first_token_ms(engine, here, question, _HERE))
        engine.warm(before_question(here), session_id=_HERE)
        warm.append(_first_token_ms(engine, here, question, _HERE))
        tokens = engine.stats.prompt_tokens
        new = tokens - engine.stats.cached_tokens
        _first_token_ms(engine, there, question, _THERE)
        alternating.append(_first_token_ms(engine, here, question, _HERE))
    return {
        "warm_ms": median(warm),
        "cold_ms": median(cold),
        "alternating_ms": median(alternating),
        "ratio": median(warm) / median(cold),
        "alternating_ratio": median(alternating) / median(cold),
        "prompt_tokens": tokens,
        "new_tokens": new,
    }


def _conversation(
    opened: Sequence[ChatMessage], question: str, answer: str
) -> tuple[ChatMessage, ...]:
    """All that is said before the last turn."""
    turns: list[ChatMessage] = []
    for place in _PLACES[: TURNS - 1]:
        turns.append(ChatMessage("user", question.format(place)))
        turns.append(ChatMessage("assistant", f"{place}? {answer}"))
    return *opened, *turns


def _first_token_ms(
    engine: LlmEngine, before: Sequence[ChatMessage], question: str, session_id: str
) -> float:
    messages = before_question(before, question)
    for _ in engine.generate(
        messages, max_tokens=1, cancelled=lambda: False, session_id=session_id
    ):
        pass
    return engine.stats.ttft_ms

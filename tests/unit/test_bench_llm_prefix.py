"""A conversation that was read before saves the time of reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bench.llm_prefix import first_token_warm_against_cold
from appliance.llm.llama_cpp import LlamaCppEngine

NAME = "smollm2-135m"
MODEL = Path(__file__).parents[2] / "models" / NAME / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.models
@pytest.mark.slow
def test_a_warm_prefix_and_one_that_comes_back_cost_a_quarter_at_most() -> None:
    engine = LlamaCppEngine(MODEL, NAME, n_ctx=2048)
    try:
        figures = first_token_warm_against_cold(engine, NAME)
    finally:
        engine.close()
    assert figures["prompt_tokens"] > 500
    assert figures["new_tokens"] < 30
    assert figures["ratio"] <= 0.25
    assert figures["alternating_ratio"] <= 0.25

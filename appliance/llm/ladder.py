"""The language models that stand in for one another."""

LLM_LADDER = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m")
"""From the best to the fastest."""

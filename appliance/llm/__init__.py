"""The llm process: the language model and the shaping of its text."""

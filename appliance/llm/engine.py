"""What the llm process needs from a language model, whichever library runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from appliance.errors import ApplianceError
from appliance.messages import ChatMessage

Finish = Literal["running", "stop", "length", "cancelled"]


@dataclass(frozen=True)
class GenerationStats:
    """What one call to `LlmEngine.generate` or `LlmEngine.warm` did, and how fast."""

    prompt_tokens: int = 0
    """Tokens of the whole rendered prompt."""
    cached_tokens: int = 0
    """Of those, how many the prefix cache already held."""
    generated_tokens: int = 0
    """Tokens sampled, without the one that ends the answer."""
    ttft_ms: float = 0.0
    """Call → first token sampled (the prompt's evaluation included)."""
    tokens_per_s: float = 0.0
    """Rate of the tokens after the first; 0 when there were fewer than two."""
    question_complete: float | None = None
    """Probability that the newest message ends a sentence; None when it was not asked."""
    finish: Finish = "running"
    """Why it ended: the model's own end, `max_tokens` or a full context, or `cancelled`."""


class LlmError(ApplianceError):
    """The language model could not be loaded or could not evaluate a prompt."""


class PromptTooLongError(LlmError):
    """The newest message alone does not fit the context; the conversation can go on without it."""


class LlmEngine(Protocol):
    """A language model that streams its answer. One caller at a time; not thread-safe."""

    @property
    def stats(self) -> GenerationStats:
        """Figures of the latest call; final once its iterator is exhausted or closed."""
        ...

    def warm(
        self,
        messages: Sequence[ChatMessage],
        cancelled: Callable[[], bool] = ...,
        *,
        session_id: str = ...,
        opening: int = ...,
        max_tokens: int = ...,
        whole: bool = ...,
    ) -> None:
        """Evaluate messages (the system prompt) ahead of time: later prompts start behind them.

        What was evaluated when ``cancelled`` returned true is kept. The other arguments are those
        of the `generate` to come, so that the same old messages are dropped. ``whole`` says that
        an answer may follow: `generate` with the same messages then has nothing left to evaluate.
        """
        ...

    def generate(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int,
        cancelled: Callable[[], bool],
        session_id: str = ...,
        opening: int = ...,
        grammar: str = ...,
    ) -> Iterator[str]:
        """Stream the assistant's answer as text pieces that never split a character.

        Args:
            messages: the conversation, system prompt first; the longest prefix in common with
                the previous call is not evaluated again.
            max_tokens: most tokens to generate.
            cancelled: asked from inside the evaluation, every few milliseconds, on the calling
                thread; once it returns True the iterator ends without another piece. It must
                be cheap and must not raise.
            session_id: whose conversation it is; several are remembered.
            opening: so many messages at its beginning are never dropped.
            grammar: GBNF that the answer must follow; empty: any text.

        Raises:
            PromptTooLongError: the messages that cannot be dropped do not fit the context.
            LlmError: the model failed.
        """
        ...

    def keep_only(self, session_ids: Collection[str]) -> None:
        """Remember nothing of any other session."""
        ...

    def close(self) -> None:
        """Free the model; the engine is unusable afterwards."""
        ...


def create_llm_engine(
    model_path: Path,
    model_name: str,
    *,
    n_ctx: int = 2048,
    n_threads: int = 2,
    n_threads_batch: int = 2,
    temperature: float = 0.0,
    seed: int = 0,
) -> LlmEngine:
    """Load the one engine there is (llama.cpp); see `LlamaCppEngine` for the arguments."""
    from appliance.llm.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(
        model_path,
        model_name,
        n_ctx=n_ctx,
        n_threads=n_threads,
        n_threads_batch=n_threads_batch,
        temperature=temperature,
        seed=seed,
    )

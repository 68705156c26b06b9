"""Which language model answers: the one that is wanted, or else the best that can be loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.llm.engine import LlmEngine, LlmError, create_llm_engine
from appliance.llm.ladder import LLM_LADDER
from appliance.llm.prompt import before_question, opening
from appliance.models.store import ensure_model

RETRY_NS = 60_000_000_000
"""What failed may go well later: there may be memory again."""

_BESIDE_WEIGHTS_BYTES = 150 << 20
"""Memory for the context and the library."""


@dataclass(frozen=True)
class Loaded:
    """What came of loading."""

    engine: LlmEngine | None
    model: str
    """Empty without an engine."""
    problem: str
    """Why it is not the model that is wanted; empty when it is."""


def candidates(wanted: str, root: Path, running: str = "") -> list[str]:
    """The models to try, the best first: the wanted one, then the smaller ones that are there.

    Args:
        wanted: name of a model.
        root: the models folder.
        running: the model that answers at present: nothing less is of interest.
    """
    below = LLM_LADDER[LLM_LADDER.index(wanted) + 1 :] if wanted in LLM_LADDER else LLM_LADDER
    names = [wanted, *(name for name in below if (root / name).is_dir())]
    if running in names:
        return names[: names.index(running)]
    return names[:1] if running else names


def load_first(
    config: Config, names: Sequence[str], load: Callable[[Config, str], LlmEngine] | None = None
) -> Loaded:
    """Load the first of these models that can be loaded.

    Args:
        config: says where they are.
        names: the best first.
        load: how to load one, normally `load_engine`.
    """
    problem = ""
    for name in names:
        try:
            engine = (load or load_engine)(config, name)
        except (ApplianceError, OSError, MemoryError) as error:
            problem = problem or str(error) or type(error).__name__
        else:
            return Loaded(engine, name, f"{name} answers instead: {problem}" if problem else "")
    return Loaded(None, "", problem)


def load_engine(config: Config, model: str) -> LlmEngine:
    """A language model with the instructions read already.

    Raises:
        ApplianceError: its files are missing or damaged, or there is not enough memory.
    """
    folder = ensure_model(model, root=config.models_path)
    weights = next(folder.glob("*.gguf"), None)
    if weights is None:
        raise ApplianceError(f"{model} is not a language model: set another [llm] model")
    # the weights are read as they are used: without room for them every token waits for the disk
    needed = weights.stat().st_size + _BESIDE_WEIGHTS_BYTES
    if (available := psutil.virtual_memory().available) < needed:
        raise LlmError(
            f"not enough memory for {model}: it needs {needed >> 20} MB, {available >> 20} MB are "
            "available: choose a smaller model ([llm] model)"
        )
    engine = create_llm_engine(
        weights,
        model,
        n_ctx=config.llm.context_tokens,
        n_threads=config.llm.threads,
        n_threads_batch=config.llm.threads,
    )
    try:
        engine.warm(
            before_question(
                opening(config.llm.system_prompt, config.llm.model, config.asr.language)
            )
        )
    except ApplianceError:
        engine.close()
        raise
    return engine


class Retry:
    """When to try again to load a model that could not be loaded.

    Args:
        root: the models folder.
        wanted: name of the model.
        now_ns: when it was tried.
    """

    def __init__(self, root: Path, wanted: str, now_ns: int) -> None:
        self._folder = root / wanted
        self._tried_ns = now_ns
        self._seen = _fingerprint(self._folder)

    def due(self, now_ns: int) -> bool:
        """After some time, and at once when its files have changed."""
        return now_ns - self._tried_ns >= RETRY_NS or _fingerprint(self._folder) != self._seen


def _fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files in a folder; empty when it is not there."""
    try:
        with os.scandir(folder) as entries:
            files = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))

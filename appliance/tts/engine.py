"""What the tts process needs from a speech synthesiser, whichever library runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ApplianceError

Audio = npt.NDArray[np.float32]
"""Mono samples in [-1, 1], shape (n,)."""


class TtsError(ApplianceError):
    """The voice could not be loaded or could not speak."""


class TtsEngine(Protocol):
    """A synthesiser of one voice. One caller at a time; not thread-safe."""

    @property
    def rate_hz(self) -> int:
        """Sample rate of everything `synthesise` yields."""
        ...

    def synthesise(self, text: str, *, cancelled: Callable[[], bool]) -> Iterator[Audio]:
        """Speak `text`, one array per sentence, as the engine renders it (see `speech`).

        Args:
            text: plain words and punctuation; nothing speakable yields nothing.
            cancelled: asked before each sentence; once True nothing more is yielded.

        Raises:
            TtsError: the engine failed.
        """
        ...

    def close(self) -> None:
        """Free the voice; the engine is unusable afterwards."""
        ...


def create_tts_engine(
    kind: Literal["piper", "espeak"],
    *,
    model_path: Path | None = None,
    model_name: str = "",
    voice: str = "en-us",
    n_threads: int = 1,
) -> TtsEngine:
    """Load an engine by its configured name.

    Args:
        kind: `piper` needs `model_path` and `model_name`; `espeak` needs `voice`.
        model_path: the ONNX voice, with its JSON beside it.
        model_name: its name in the manifest, for error messages.
        voice: name of the espeak-ng voice.
        n_threads: of the inference.

    Raises:
        TtsError: see the engine.
    """
    if kind == "espeak":
        from appliance.tts.espeak import EspeakEngine

        return EspeakEngine(voice)
    if model_path is None:
        raise TtsError("the piper voice has no model file: set [tts] model")
    from appliance.tts.piper import PiperEngine

    return PiperEngine(model_path, model_name, n_threads=n_threads)

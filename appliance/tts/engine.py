"""What the tts process needs from a speech synthesiser, whichever library runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ApplianceError

Audio = npt.NDArray[np.float32]
"""Mono samples in [-1, 1], shape (n,)."""


class TtsError(ApplianceError):
    """The voice could not be loaded or could not speak."""


@dataclass(frozen=True)
class Rendered:
    """The next stretch of a sentence."""

    samples: Audio
    ends_sentence: bool
    word_ends: tuple[int, ...] = ()
    """Where the words that end in this sentence end, in samples from the sentence's start. Told
    once for each sentence, with any of its stretches; a word is what stands between spaces."""


class TtsEngine(Protocol):
    """A synthesiser of one voice. One caller at a time; only `interrupt` may come in between."""

    @property
    def rate_hz(self) -> int:
        """Sample rate of everything `synthesise` yields."""
        ...

    @property
    def language(self) -> str:
        """Of the voice, such as `en-us`."""
        ...

    @property
    def problem(self) -> str:
        """Why it is not the voice that is wanted who speaks; empty when it is."""
        ...

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """Speak `text`, one sentence after the other, each in stretches as it is rendered.

        Args:
            text: plain words and punctuation; nothing speakable yields nothing.
            cancelled: asked before each stretch; once True nothing more is yielded.
            speed: how fast, 0.5 to 2; 1 is the voice's own.

        Raises:
            TtsError: the engine failed.
        """
        ...

    def interrupt(self) -> None:
        """End the `synthesise` that another thread is waiting for, as soon as possible."""
        ...

    def close(self) -> None:
        """Free the voice; the engine is unusable afterwards."""
        ...


def create_tts_engine(
    kind: Literal["piper", "espeak", "tones"],
    *,
    model_path: Path | None = None,
    model_name: str = "",
    voice: str = "en-us",
    n_threads: int = 1,
) -> TtsEngine:
    """Load an engine by its configured name.

    Args:
        kind: `piper` needs `model_path` and `model_name`; `espeak` needs `voice`; `tones`
            needs nothing.
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
    if kind == "tones":
        from appliance.tts.tones import TonesEngine

        return TonesEngine()
    if model_path is None:
        raise TtsError("the piper voice has no model file: set [tts] model")
    from appliance.tts.piper import PiperEngine

    return PiperEngine(model_path, model_name, n_threads=n_threads)

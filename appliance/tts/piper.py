"""Speech by Piper (VITS on ONNX Runtime, phonemes by espeak-ng). GPL-3.0, imported only here.

The session is made here rather than by `PiperVoice.load`, which sets neither threads nor
optimisation. Without graph optimisation a medium voice loads in a third of the time and speaks
just as fast (docs/decisions/0006-voice.md); a second thread gains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from piper import PiperConfig, PiperVoice

from appliance.tts.engine import Audio, TtsError


class PiperEngine:
    """`TtsEngine` for one Piper voice. It speaks once while loading, so that the first is not slow.

    Args:
        model_path: `VOICE.onnx`; `VOICE.onnx.json` lies beside it.
        model_name: its name in the manifest, for error messages.
        n_threads: of the inference.

    Raises:
        TtsError: a file is missing or damaged.
    """

    def __init__(self, model_path: Path, model_name: str, *, n_threads: int = 1) -> None:
        repair = f"run 'appliance models fetch {model_name}'"
        config_path = model_path.with_name(model_path.name + ".json")
        for path in (model_path, config_path):
            if not path.is_file():
                raise TtsError(f"the voice file {path} is missing: {repair}")
        try:
            config = PiperConfig.from_dict(json.loads(config_path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TtsError(f"the voice file {config_path} is damaged: {repair}") from error

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        # Waiting threads must not take the core from the audio callback.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena keeps what the longest sentence ever needed: 320 MB after 10 s of speech, 650 MB
        # after 16 s. Without it the process stays near 150 MB, for a tenth more CPU time.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # errors arrive as exceptions; stderr stays quiet
        try:
            session = ort.InferenceSession(
                str(model_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions share no other base
            raise TtsError(f"the voice file {model_path} is damaged: {repair}") from error
        self._voice = PiperVoice(session=session, config=config)
        self._name = model_name
        for _ in self.synthesise("Hello.", cancelled=lambda: False):
            pass

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return self._voice.config.sample_rate

    def synthesise(self, text: str, *, cancelled: Callable[[], bool]) -> Iterator[Audio]:
        """See `TtsEngine.synthesise`."""
        # "[[" would switch Piper to raw phonemes, and C strings end at a zero.
        for phonemes in self._voice.phonemize(text.replace("[[", " ").replace("\0", " ")):
            if cancelled():
                return
            if not any(symbol.isalpha() for symbol in phonemes):
                continue
            try:
                audio = self._voice.phoneme_ids_to_audio(self._voice.phonemes_to_ids(phonemes))
            except Exception as error:
                raise TtsError(f"the voice {self._name} failed to speak: {error}") from error
            yield np.ascontiguousarray(audio, dtype=np.float32).reshape(-1)

    def close(self) -> None:
        """See `TtsEngine.close`."""
        del self._voice

"""Speech by Piper (VITS on ONNX Runtime, phonemes by espeak-ng). GPL-3.0, imported only here.

Piper finds the phonemes; the model runs in `vits`, a stretch at a time. `PiperVoice.load` would set
neither threads nor optimisation.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from piper import PiperConfig, PiperVoice
from piper.const import BOS, PAD

from appliance.tts.engine import Rendered, TtsError
from appliance.tts.vits import VitsModel
from appliance.tts.words import by_weight, share_out

_LONGEST = 200
"""Phonemes of a sentence, stress marks and spaces included: some 12 s. What is spelt letter by
letter has more of them than its text makes one think."""


class PiperEngine:
    """`TtsEngine` for one Piper voice. It speaks once while loading, so that the first is not slow.

    Args:
        model_path: `VOICE.onnx`; `VOICE.onnx.json` lies beside it.
        model_name: its name in the manifest, for error messages.
        n_threads: of the inference.

    Raises:
        TtsError: a file is missing or damaged.
    """

    problem = ""

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
        try:
            self._model = VitsModel(model_path, n_threads)
        except Exception as error:  # the runtime's exceptions share no other base
            raise TtsError(f"the voice file {model_path} is damaged: {repair}") from error
        self._voice = PiperVoice(session=self._model.front, config=config)
        self._name = model_name
        self._idle = self._running = ort.RunOptions()
        """Options of the inference that runs."""
        for _ in self.synthesise("Hello.", cancelled=lambda: False):
            pass

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        rate_hz: int = self._voice.config.sample_rate
        return rate_hz

    @property
    def language(self) -> str:
        """See `TtsEngine.language`."""
        language: str = self._voice.config.espeak_voice
        return language

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`."""
        options = ort.RunOptions()
        try:
            yield from self._synthesise(text, cancelled, options, speed)
        except TtsError:
            raise
        except Exception as error:
            if not options.terminate:
                raise TtsError(f"the voice {self._name} failed to speak: {error}") from error

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`; the runtime looks at it some hundred times a second."""
        self._running.terminate = True

    def close(self) -> None:
        """See `TtsEngine.close`."""
        del self._voice, self._model

    def _synthesise(
        self, text: str, cancelled: Callable[[], bool], options: ort.RunOptions, speed: float
    ) -> Iterator[Rendered]:
        sounds: list[int] = []
        sentences = self._phonemes(text)
        shares: list[list[int]] = []
        said = 0
        for n, phonemes in enumerate(sentences):
            stretches = self._model.render(self._inputs(phonemes, speed), options)
            for number in itertools.count():
                if cancelled():
                    return
                self._running = options
                stretch = next(stretches)
                self._running = self._idle
                word_ends: tuple[int, ...] = ()
                # the words of a sentence are not waited for with its first sound
                if number == 1 or (stretch.last and number == 0):
                    sounds = sounds or [_sounds(self._phonemes(word)) for word in text.split()]
                    shares = shares or share_out(
                        sounds, [_sounds([sentence]) for sentence in sentences]
                    )
                    if stretch.id_ends is None:
                        weights = sounds[said : said + len(shares[n])]
                        word_ends = by_weight(weights, stretch.samples, self.rate_hz)
                    else:
                        sound_ends = self._sound_ends(phonemes, stretch.id_ends)
                        word_ends = tuple(sound_ends[share] for share in shares[n])
                    said += len(shares[n])
                yield Rendered(stretch.samples, stretch.last, word_ends)
                if stretch.last:
                    break

    def _phonemes(self, text: str) -> list[list[str]]:
        """Of each sentence that has any."""
        # "[[" would switch Piper to raw phonemes, and C strings end at a zero.
        sentences = self._voice.phonemize(text.replace("[[", " ").replace("\0", " "))
        return [part for phonemes in sentences for part in _divided(phonemes) if _sounds([part])]

    def _inputs(self, phonemes: list[str], speed: float = 1.0) -> dict[str, npt.NDArray[Any]]:
        ids = self._voice.phonemes_to_ids(phonemes)
        config = self._voice.config
        scales = (config.noise_scale, config.length_scale / speed, config.noise_w_scale)
        inputs: dict[str, npt.NDArray[Any]] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        if config.num_speakers > 1:
            inputs["sid"] = np.array([config.default_speaker_id], np.int64)
        return inputs

    def _sound_ends(self, phonemes: list[str], id_ends: npt.NDArray[np.int64]) -> list[int]:
        """Where the first 0, 1, 2 ... sounds of a sentence end, in samples."""
        id_map = self._voice.config.phoneme_id_map
        ends = [0]
        position = len(id_map[BOS]) + len(id_map[PAD]) - 1
        for phoneme in phonemes:
            if phoneme in id_map:
                position += len(id_map[phoneme]) + len(id_map[PAD])
            if _is_sound(phoneme):
                ends.append(int(id_ends[min(position, len(id_ends) - 1)]))
        return ends


def _divided(phonemes: list[str]) -> Iterator[list[str]]:
    """What is too long for one sentence, in parts, between words where there are any."""
    while len(phonemes) > _LONGEST:
        space = max((n for n in range(1, _LONGEST) if phonemes[n] == " "), default=_LONGEST)
        yield phonemes[:space]
        phonemes = phonemes[space:]
    yield phonemes


def _sounds(sentences: Iterable[Iterable[str]]) -> int:
    return sum(_is_sound(phoneme) for phonemes in sentences for phoneme in phonemes)


def _is_sound(phoneme: str) -> bool:
    """No punctuation, and no modifier such as a stress mark."""
    return unicodedata.category(phoneme[:1]) in ("Ll", "Lu", "Lo")

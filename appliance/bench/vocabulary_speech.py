"""Sentences spoken by many synthetic voices, in the noise of a room."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from appliance import config as configuration
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.audio.files import read_speech
from appliance.bench.metrics import active_rms
from appliance.bench.vocabulary_words import WordSet
from appliance.errors import ApplianceError
from appliance.models.store import ensure_model
from appliance.tts.engine import TtsEngine, create_tts_engine

SNRS_DB = (30.0, 20.0, 12.0)
_SPEECH_RMS = 0.05
_MARGIN_S = 0.3


@dataclass(frozen=True)
class Spoken:
    """One utterance."""

    text: str
    entry: str
    """The vocabulary entry in it; empty if there is none."""
    voice: str
    snr_db: float
    samples: Samples
    """Shape (n,), 16 kHz."""


def sentences(words: WordSet, repeats: int) -> Iterator[tuple[str, str]]:
    """Yield text and entry: every entry in ``repeats`` carrier sentences, then the plain ones."""
    for repeat in range(repeats):
        for number, (entry, kind) in enumerate(words.entries.items()):
            carriers = words.carriers[kind]
            yield carriers[(number + repeat) % len(carriers)].format(entry), entry
    for text in words.plain:
        yield text, ""


def speak(words: WordSet, *, repeats: int, seed: int) -> Iterator[Spoken]:
    """Have the sentences spoken, voices and noise levels in turn.

    Raises:
        ApplianceError: a synthesiser is missing.
    """
    rng = np.random.default_rng(seed)
    settings = list(_settings(words))
    for number, (text, entry) in enumerate(sentences(words, repeats)):
        # a step that shares no factor with the carriers: every entry meets other voices
        voice, snr_db = settings[(number * 7 + number // len(settings)) % len(settings)]
        yield Spoken(text, entry, voice, snr_db, in_noise(synthesise(text, voice), snr_db, rng))


def _settings(words: WordSet) -> Iterator[tuple[str, float]]:
    for snr_db in SNRS_DB:
        for voice in words.voices:
            yield voice, snr_db


def in_noise(speech: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Return ``speech`` at a usual level in the noise of a room, which falls 6 dB an octave."""
    margin = round(_MARGIN_S * RATE_HZ)
    padded = np.pad(speech / (active_rms(speech) or 1.0), margin)
    white = np.fft.rfft(rng.standard_normal(len(padded)))
    frequency = np.fft.rfftfreq(len(padded), 1 / RATE_HZ)
    noise = np.fft.irfft(white / np.maximum(frequency, 100.0), len(padded))
    noise *= 10 ** (-snr_db / 20) / np.sqrt(np.mean(noise**2))
    return (_SPEECH_RMS * (padded + noise)).astype(np.float32)


def synthesise(text: str, voice: str) -> Samples:
    """Return ``text`` as said by ``voice`` (see ``WordSet.voices``), 16 kHz."""
    name, _, factor = voice.partition("@")
    kind, _, variant = name.partition(":")
    speech, rate_hz = _flite(text, variant) if kind == "flite" else _engine(text, kind, variant)
    speed = float(factor) if factor else 1.0
    # speed and pitch together, as of a smaller or larger person
    resampled: Samples = soxr.resample(speech, rate_hz * speed, RATE_HZ)
    return resampled.astype(np.float32)


def _flite(text: str, variant: str) -> tuple[Samples, int]:
    with tempfile.TemporaryDirectory(prefix="vocabulary-") as folder:
        path = Path(folder) / "speech.wav"
        try:
            subprocess.run(["flite", "-voice", variant, "-t", text, "-o", str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ApplianceError("This needs another voice: apt-get install flite") from error
        return read_speech(path)[0], RATE_HZ


def _engine(text: str, kind: str, variant: str) -> tuple[Samples, int]:
    engine = _load(kind, variant)
    pieces = [piece.samples for piece in engine.synthesise(text, cancelled=lambda: False)]
    return np.concatenate(pieces), engine.rate_hz


@cache
def _load(kind: str, variant: str) -> TtsEngine:
    if kind == "espeak":
        return create_tts_engine("espeak", voice=variant)
    import onnxruntime as ort

    ort.set_seed(1)  # the voice is random in its details
    settings = configuration.load()
    name = settings.tts.model
    folder = ensure_model(name, root=settings.models_path)
    return create_tts_engine("piper", model_path=next(folder.glob("*.onnx")), model_name=name)

"""The tts process: text to speech, its playback, and the record of what was really played."""

from __future__ import annotations

import sys
from collections.abc import Callable

from appliance.conductor import phrases
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import SPEAKER_RING, RingWriter, speaker_format
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock, remove_dead_segments
from appliance.mind.sayings import fixed_phrases
from appliance.models.errors import ModelError
from appliance.models.store import ModelStore, ensure_model
from appliance.processes import REMOTE_SPEAKER_RINGS
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import TtsEngine, create_tts_engine
from appliance.tts.fallback import FallbackEngine
from appliance.tts.languages import LanguagesEngine, espeak_name
from appliance.tts.playback import Loudspeaker
from appliance.tts.service import TOPICS, Service

__all__ = ["TOPICS", "load_engine", "load_voices", "main"]

_SWITCH_INTERVAL_S = 0.0005
"""The audio callback waits at most this long for Python's lock while a voice is synthesised."""


def load_engine(config: Config) -> TtsEngine:
    """The voice that is configured.

    Raises:
        ApplianceError: its files are missing or damaged.
    """
    if config.tts.engine == "espeak-ng":
        return create_tts_engine("espeak", voice="en-us")
    return _load_piper(config, config.tts.model)


def load_voices(config: Config) -> TtsEngine:
    """The voice that is configured, and one for what it cannot say; simpler ones where these fail.

    Never raises: there are always tones.
    """
    return LanguagesEngine(
        FallbackEngine(
            [
                lambda: load_engine(config),
                lambda: create_tts_engine("espeak", voice=_configured_language(config)),
                lambda: create_tts_engine("tones"),
            ]
        ),
        lambda language: _load_other(config, language),
    )


def _load_other(config: Config, language: str) -> TtsEngine:
    voices: list[Callable[[], TtsEngine]] = [
        lambda: create_tts_engine("espeak", voice=language),
        lambda: create_tts_engine("tones"),
    ]
    if (name := _present(config, language)) and config.tts.engine == "piper":
        voices.insert(0, lambda: _load_piper(config, name))
    return FallbackEngine(voices)


def _load_piper(config: Config, name: str) -> TtsEngine:
    folder = ensure_model(name, root=config.models_path)
    voice = next(folder.glob("*.onnx"), None)
    if voice is None:
        raise ApplianceError(f"{name} is not a voice: set another [tts] model")
    return create_tts_engine(
        "piper", model_path=voice, model_name=name, n_threads=config.tts.threads
    )


def _present(config: Config, language: str) -> str:
    """The first voice of a language whose files are there; empty: none."""
    try:
        models = ModelStore(config.models_path).manifest.models
    except ModelError:
        return ""
    for model in models:
        speaks = model.task == "tts" and language in map(espeak_name, model.languages)
        if speaks and (config.models_path / model.name).is_dir():
            return model.name
    return ""


def _configured_language(config: Config) -> str:
    try:
        languages = ModelStore(config.models_path).manifest.model(config.tts.model).languages
    except ModelError:
        languages = ()
    return espeak_name(languages[0] if languages else "")


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    lock = FileLock(bus.runtime_dir / f"{SPEAKER_RING.name}.writer.lock")
    if not lock.acquire():
        raise ApplianceError(f"Another process ({lock.holder()}) writes the speaker ring.")
    for ring in REMOTE_SPEAKER_RINGS:  # of a life before this one
        remove_dead_segments(config.shm_prefix, ring)
    service = Service(
        bus,
        CachedEngine(load_voices(config)),
        Loudspeaker(config.audio.output_device),
        lambda session_id: RingWriter(config.shm_prefix, speaker_format(session_id)),
        gain_db=config.audio.output_gain_db,
        duck_db=config.tts.duck_db if config.conductor.barge_in else 0.0,
        ahead_ms=1000 * config.tts.ahead_s,
        prepared=phrases.all_said(config.asr.language) + fixed_phrases(config.asr.language),
    )
    try:
        service.open()
        while bus.running:
            service.step()
    finally:
        service.close()

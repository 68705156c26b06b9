"""The tts process: text to speech, its playback, and the record of what was really played."""

from __future__ import annotations

import sys

from appliance.conductor import phrases
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import SPEAKER_RING, RingWriter, speaker_format
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock, remove_dead_segments
from appliance.mind.sayings import fixed_phrases
from appliance.models.store import ensure_model
from appliance.processes import REMOTE_SPEAKER_RINGS
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import TtsEngine, create_tts_engine
from appliance.tts.playback import Loudspeaker
from appliance.tts.service import TOPICS, Service

__all__ = ["TOPICS", "load_engine", "main"]

_SWITCH_INTERVAL_S = 0.0005
"""The audio callback waits at most this long for Python's lock while a voice is synthesised."""


def load_engine(config: Config) -> TtsEngine:
    """The voice that is configured.

    Raises:
        ApplianceError: its files are missing or damaged.
    """
    if config.tts.engine == "espeak-ng":
        return create_tts_engine("espeak", voice="en-us")
    folder = ensure_model(config.tts.model, root=config.models_path)
    voice = next(folder.glob("*.onnx"), None)
    if voice is None:
        raise ApplianceError(f"{config.tts.model} is not a voice: set another [tts] model")
    return create_tts_engine(
        "piper", model_path=voice, model_name=config.tts.model, n_threads=config.tts.threads
    )


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
        CachedEngine(load_engine(config)),
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

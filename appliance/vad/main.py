"""The vad process: reads the mic ring, says who speaks when."""

from __future__ import annotations

import logging

from appliance.config import Config, VadConfig
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Bus
from appliance.messages import LOCAL_SESSION, BlocksReady, ring_topic
from appliance.models.store import ensure_model
from appliance.vad.detector import DetectorSettings, SpeechDetector
from appliance.vad.engine import SileroDetector
from appliance.vad.near_end import NearEndReflex, ReflexSettings
from appliance.vad.stream import SpeechStream, without_stale

logger = logging.getLogger(__name__)

TOPICS = (ring_topic(MIC_RING.name),)
REWIND_BLOCKS = 1_000
"""10 s: a successor hears again what its predecessor heard, and so arrives where it was."""


def detector_settings(config: VadConfig) -> DetectorSettings:
    """The detector's settings; whatever the configuration admits is good for the detector."""
    return DetectorSettings(
        start_threshold=config.onset_probability,
        stop_threshold=config.offset_probability,
        onset_ms=config.onset_ms,
        onset_window_ms=max(500, config.onset_ms),
        pre_roll_ms=config.preroll_ms,
        pause_ms=config.pause_ms,
        end_ms=config.fallback_ms,
        max_segment_s=config.max_segment_s,
    )


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    voice = SileroDetector(ensure_model("silero-vad", root=config.models_path))
    reflex = NearEndReflex(
        ReflexSettings(
            start_threshold=config.vad.onset_probability,
            stop_threshold=config.vad.offset_probability,
        )
    )
    detector = SpeechDetector(detector_settings(config.vad))
    stream = SpeechStream(LOCAL_SESSION, detector, voice, reflex)
    reader = RingReader(config.shm_prefix, MIC_RING.name)
    bus.ready()
    while bus.running:
        message = bus.receive()
        if not isinstance(message, BlocksReady):
            continue
        if reader.announced(message, rewind_blocks=REWIND_BLOCKS):
            logger.info("mic ring of epoch %d attached", message.epoch)
        told = stream.step(
            reader.read(),
            direction_deg=message.direction_deg,
            far_end_active=message.far_end_active,
        )
        for event in without_stale(told):
            bus.publish(event)
        bus.counters = {"lost_blocks": reader.lost_blocks}
    reader.close()

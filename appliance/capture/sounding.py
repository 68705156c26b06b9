"""Plays a sound through the real loudspeaker and records what the real microphones hear of it."""

from __future__ import annotations

import logging
import select
import time

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.audio.player import PlaybackEventKind
from appliance.capture.device import Microphone
from appliance.capture.far_end import FarEndTimeline
from appliance.capture.framer import BlockFramer, DatedBlock
from appliance.config import AudioConfig
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import Block
from appliance.tts.playback import Loudspeaker

logger = logging.getLogger(__name__)

_SETTLE_S = 0.5
"""Before the sound, until both devices' clocks have settled, and after it, for its echoes."""
_SPARE_S = 5.0
_PIECE_SAMPLES = RATE_HZ // 10
_UTTERANCE = "sounding"
_BLOCKS_MS = (20, 40, 80)
"""Length of the devices' buffers in each attempt: a busy machine may miss the short ones."""


class AudioLostError(ApplianceError):
    """What was heard or played has gaps, and nothing can be measured with it."""


def play_and_record(audio: AudioConfig, channels: int, sound: Samples) -> tuple[Samples, Samples]:
    """Play a sound, record the microphones, and bring both together by their time-stamps.

    Args:
        audio: devices and volume.
        channels: of the microphone, to be recorded.
        sound: shape (n,) at 16 kHz, within ±1.

    Returns:
        What was played, shape (m,), and what the microphones heard meanwhile, (channels, m).

    Raises:
        AudioLostError: audio was lost in every attempt.
        ApplianceError: a device cannot be opened, or it stopped.
    """
    *tries, last = _BLOCKS_MS
    for block_ms in tries:
        try:
            return _attempt(audio, channels, sound, block_ms)
        except AudioLostError as error:
            logger.info("%s Once more, with larger buffers.", error)
    return _attempt(audio, channels, sound, last)


def _attempt(
    audio: AudioConfig, channels: int, sound: Samples, block_ms: int
) -> tuple[Samples, Samples]:
    microphone = Microphone(audio.input_device, channels, block_ms=block_ms)
    loudspeaker = Loudspeaker(audio.output_device, block_ms=block_ms)
    try:
        microphone.start()
        loudspeaker.start()
        loudspeaker.ramp_gain(audio.output_gain_db, 1.0)
        far, mic = _run(microphone, loudspeaker, sound)
    finally:
        loudspeaker.close()
        microphone.close()
    return _bring_together(far, mic)


def _run(
    microphone: Microphone, loudspeaker: Loudspeaker, sound: Samples
) -> tuple[list[DatedBlock], list[DatedBlock]]:
    far_framer: BlockFramer | None = None
    mic_framer: BlockFramer | None = None
    far: list[DatedBlock] = []
    mic: list[DatedBlock] = []
    started_s = time.monotonic()
    give_up_s = started_s + 2 * _SETTLE_S + len(sound) / RATE_HZ + _SPARE_S
    end_s: float | None = None
    queued = False
    next_frame = 0
    while end_s is None or time.monotonic() < end_s:
        select.select([microphone.fileno(), loudspeaker.fileno()], [], [], 0.1)
        for capture in microphone.read():
            if capture.stretch or microphone.statistics.dropped_blocks:
                raise AudioLostError("The microphone lost audio: is the machine overloaded?")
            mic_framer = mic_framer or BlockFramer(microphone.rate_hz, capture.frames.shape[1])
            mic += mic_framer.push(capture.frames, capture.first_sample_ns)
        if not queued and time.monotonic() > started_s + _SETTLE_S:
            queued = True
            for start in range(0, len(sound), _PIECE_SAMPLES):
                loudspeaker.enqueue(_UTTERANCE, sound[start : start + _PIECE_SAMPLES], RATE_HZ)
            loudspeaker.finish(_UTTERANCE)
        for report in loudspeaker.reports():
            if report.kind is PlaybackEventKind.DRAINED:
                end_s = time.monotonic() + _SETTLE_S
        for played in loudspeaker.played():
            far_framer = far_framer or BlockFramer(
                loudspeaker.rate_hz, first_frame=played.first_frame
            )
            if played.first_frame < next_frame:
                raise AudioLostError("The loudspeaker ran dry: is the machine overloaded?")
            next_frame = played.first_frame + len(played.samples)
            far += far_framer.push(played.samples[:, None], played.dac_ns)
        if time.monotonic() > give_up_s:
            raise ApplianceError("The loudspeaker does not play to the end: is its plug loose?")
    return far, mic


def _bring_together(far: list[DatedBlock], mic: list[DatedBlock]) -> tuple[Samples, Samples]:
    timeline = FarEndTimeline(lead_ms=0)
    for block in far:
        timeline.push(
            Block(0, block.position, block.first_sample_ns, 0, block.samples[0], block.position)
        )
    silence = np.zeros(BLOCK_SAMPLES, np.float32)
    played = [timeline.take(block.position, block.first_sample_ns) for block in mic]
    return (
        np.concatenate([silence if block is None else block for block in played]),
        np.concatenate([block.samples for block in mic], axis=1),
    )

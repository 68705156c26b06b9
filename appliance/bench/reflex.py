"""How soon the reflex notices the user over the appliance's own voice, and how often nobody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance import config as configuration
from appliance.audio.blocks import BLOCK_MS, BLOCK_NS, BLOCK_SAMPLES, Samples
from appliance.bench.front_end_processors import Chain
from appliance.bench.scenes import Scene, Script, make_scene
from appliance.ipc.audio_ring import Block
from appliance.models.store import ensure_model
from appliance.vad.detector import SpeechDetector
from appliance.vad.engine import SileroDetector
from appliance.vad.near_end import NearEndReflex
from appliance.vad.stream import SpeechStream

_TURNS: Script = (("double-talk", 1.8), ("far-only", 2.2))
_SCRIPT: Script = (("far-only", 6.0), *_TURNS, *_TURNS, *_TURNS, *_TURNS, *_TURNS, *_TURNS)
_WARM_BLOCKS = 500
"""The front-end learns the echo first."""
_AUDIBLE_DB = 20.0
"""An utterance begins where it comes so near to its loudest block: a breath is no barge-in."""
_RELEASE_BLOCKS = 40
"""After speech the reflex may last so long."""
_APART_BLOCKS = 50
_MISSED_MS = 1500


def reflex_figures(*, scenes: int, first_seed: int) -> dict[str, float]:
    """Delays and false alarms at +15 dB echo.

    A delay is from the user's onset at the microphone to the alarm, the front-end's 20 ms included,
    the devices' latency not.
    """
    delays_ms: list[float] = []
    alarms = far_blocks = 0
    for number in range(scenes):
        scene = make_scene(
            first_seed + number, script=_SCRIPT, rt60_s=(0.3, 0.5)[number % 2], delay_ms=40.0
        )
        active, playing, latency = _reflex(scene)
        onsets, spoken = _truth(scene, len(active), latency)
        for onset in onsets:
            late = np.flatnonzero(active[onset : onset + _MISSED_MS // BLOCK_MS])
            delays_ms.append(float((late[0] + 1) * BLOCK_MS if len(late) else _MISSED_MS))
        counted = playing & ~spoken
        counted[:_WARM_BLOCKS] = False
        alarms += int((active[1:] & ~active[:-1] & counted[1:]).sum())
        far_blocks += int(counted.sum())
    return {
        "reflex_onsets": float(len(delays_ms)),
        "reflex_p50_ms": round(float(np.median(delays_ms)), 1),
        "reflex_p95_ms": round(float(np.percentile(delays_ms, 95)), 1),
        "reflex_false_alarms_per_min": round(alarms / (far_blocks * BLOCK_MS / 60_000), 2),
    }


def _reflex(scene: Scene) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """For each block: is the reflex active, does the loudspeaker play; and the chain's latency."""
    chain = Chain(scene.mic.shape[0])
    chain.process(scene.mic, scene.far)
    root = configuration.load().models_path
    reflex = NearEndReflex()
    voice = SileroDetector(ensure_model("silero-vad", root=root))
    stream = SpeechStream("bench", SpeechDetector(), voice, reflex)
    active = np.zeros(len(chain.blocks), bool)
    for number, block in enumerate(chain.blocks):
        heard = Block(
            1, number, number * BLOCK_NS, 0, block.samples, near_end=float(block.near_end)
        )
        stream.step([heard], far_end_active=block.far_end_active)
        active[number] = reflex.active
    playing = np.array([block.far_end_active for block in chain.blocks])
    return active, playing, chain.front_end.latency_samples


def _truth(scene: Scene, blocks: int, latency: int) -> tuple[list[int], NDArray[np.bool_]]:
    """The blocks in which the user begins; for each block of the output whether they speak."""
    levels = _levels_db(scene.near_direct[0])
    late = latency // BLOCK_SAMPLES
    onsets: list[int] = []
    spoken = np.zeros(blocks, bool)
    before = -_APART_BLOCKS
    for utterance in scene.utterances:
        first = utterance.start // BLOCK_SAMPLES
        level = levels[first : utterance.stop // BLOCK_SAMPLES]
        loud = np.flatnonzero(level > level.max() - _AUDIBLE_DB)
        begin, end = first + int(loud[0]), first + int(loud[-1]) + 1
        spoken[first + late : end + late + _RELEASE_BLOCKS] = True
        if begin - before >= _APART_BLOCKS and begin >= _WARM_BLOCKS:
            onsets.append(begin)
        before = end
    return onsets, spoken


def _levels_db(samples: Samples) -> NDArray[np.float64]:
    whole = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    return np.asarray(10 * np.log10(np.square(whole).mean(axis=1) + 1e-12), np.float64)

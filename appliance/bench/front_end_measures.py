"""What is measured on one scene of each row of the front-end's table.

Every function takes a seed, the RT60 and the candidates and returns lists of values by candidate
and figure; the values of all scenes are joined before they are reduced to a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import jiwer
import numpy as np
from numpy.typing import NDArray

from appliance import config as configuration
from appliance.asr.evaluation import normalise
from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.bench import metrics
from appliance.bench.asr import Transcribe, guarded
from appliance.bench.front_end_processors import Candidate, Chain
from appliance.bench.scenes import Scene, Script, make_scene
from appliance.capture.beam import Beamformer, Mode
from appliance.capture.doa import Doa
from appliance.capture.geometry import circle
from appliance.capture.moments import Moments
from appliance.capture.spectral import Analysis, Spectra
from appliance.models.store import ensure_model
from appliance.vad.direction import direction_of_speech

Decibels = NDArray[np.float64]
Values = list[float]
Measured = dict[str, dict[str, Values]]
Measure = Callable[[int, float, Sequence[Candidate]], Measured]

LOUD_ECHO_DB = 15.0
_WHISPER = "whisper-tiny.en"
_BEAM_SETTLED_S = 4.0
_AROUND_UTTERANCE_S = (0.1, 0.4)


def double_talk_quality(scene: Scene, output: Samples) -> dict[str, Values]:
    """What is left of the user while both talk: SDR with and without a filter allowed, STOI."""
    segment = scene.of_kind("double-talk")[0]
    part = slice(segment.start, segment.stop)
    user, heard = scene.near[0, part], output[part]
    return {
        "sdr": [metrics.filtered_sdr_db(user, heard)],
        "si_sdr": [metrics.si_sdr_db(user, heard)],
        "stoi": [metrics.stoi(user, heard)],
    }


def erle_within_db(scene: Scene, output: Samples, first_s: float, last_s: float) -> float:
    """ERLE between two moments of the far-end's single talk, in seconds since its start."""
    start = scene.of_kind("far-only")[0].start
    part = slice(start + round(first_s * RATE_HZ), start + round(last_s * RATE_HZ))
    return metrics.erle_db(scene.mic[0, part], output[part])


def erle(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
    """Far-end single talk of 10 s: from cold, and from what was learnt on another 10 s."""
    script: Script = (("far-only", 10.0),)
    before, now = (
        make_scene(seed, take=take, script=script, rt60_s=rt60_s, echo_db=LOUD_ECHO_DB)
        for take in (1, 0)
    )
    result: Measured = {}
    for candidate in candidates:
        output = candidate.run(now)
        result[candidate.name] = {
            "after_2s": [erle_within_db(now, output, 2.0, 10.0)],
            "cold": [erle_within_db(now, output, 0.5, 2.0)],
        }
        learnt, warm = candidate.create(), candidate.create()
        if isinstance(learnt, Chain) and isinstance(warm, Chain):
            candidate.run(before, learnt)
            warm.start_from(learnt)
            output = candidate.run(now, warm)
            result[candidate.name]["warm"] = [erle_within_db(now, output, 0.5, 2.0)]
    return result


def double_talk(echo_db: float) -> Measure:
    """Double talk of 8 s after 6 s of the far-end alone, the echo so much above the user."""

    def measure(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
        script: Script = (("far-only", 6.0), ("double-talk", 8.0))
        scene = make_scene(seed, script=script, rt60_s=rt60_s, echo_db=echo_db)
        return {
            candidate.name: double_talk_quality(scene, candidate.run(scene))
            for candidate in candidates
        }

    return measure


def drift(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
    """What 100 ppm (either way) and 50 to 200 ms of delay cost, on the same scene.

    ERLE from 8 s on and double talk's SDR and STOI, without minus with them; `lock` in seconds.
    """
    rng = np.random.default_rng([seed, 3])
    script: Script = (("far-only", 14.0), ("double-talk", 8.0))
    clocks = ((0.0, 0.0), (float(rng.choice([-100.0, 100.0])), float(rng.uniform(50, 200))))
    scenes = [
        make_scene(
            seed,
            script=script,
            rt60_s=rt60_s,
            echo_db=LOUD_ECHO_DB,
            drift_ppm=drift_ppm,
            delay_ms=delay_ms,
        )
        for drift_ppm, delay_ms in clocks
    ]
    result: Measured = {}
    for candidate in candidates:
        tracks, qualities = [], []
        for scene in scenes:
            output = candidate.run(scene)
            alone = scene.mask("far-only")
            tracks.append(metrics.erle_track_db(scene.mic[0, alone], output[alone]))
            quality = double_talk_quality(scene, output)
            qualities.append({"erle": [erle_within_db(scene, output, 8.0, 14.0)], **quality})
        undisturbed, disturbed = qualities
        result[candidate.name] = {
            f"{name}_loss": [undisturbed[name][0] - disturbed[name][0]]
            for name in ("erle", "sdr", "stoi")
        } | {"lock": [locked_after_s(*tracks)]}
    return result


def locked_after_s(still_db: Decibels, drifting_db: Decibels) -> float:
    """When every later second's ERLE is at most 3 dB below that without drift, or above 30 dB.

    Args:
        still_db: ERLE of each second without drift.
        drifting_db: the same with it.
    """
    behind = np.flatnonzero(drifting_db < np.minimum(still_db - 3, 30))
    return float(behind[-1] + 1) if len(behind) else 0.0


def direction(*, echo_db: float | None = None, noise_snr_db: float | None = None) -> Measure:
    """Error of the published direction of each utterance within 10 s of talk, 2 m away.

    An utterance without any direction counts as 180 degrees off.
    """

    def measure(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
        alone: Script = (("near-only", 10.0),)
        both: Script = (("far-only", 5.0), ("double-talk", 10.0))
        scene = make_scene(
            seed,
            script=alone if echo_db is None else both,
            rt60_s=rt60_s,
            echo_db=echo_db,
            noise_snr_db=noise_snr_db,
        )
        result: Measured = {}
        for candidate in candidates:
            processor = candidate.create()
            if isinstance(processor, Chain):
                candidate.run(scene, processor)
                result[candidate.name] = {"error": direction_errors_deg(scene, processor)}
        return result

    return measure


def direction_errors_deg(scene: Scene, processor: Chain) -> Values:
    """Of each utterance of a scene that the chain has processed, as the vad process sums it up."""
    late = processor.front_end.latency_samples
    errors = []
    for utterance in scene.utterances:
        first, last = ((at + late) // BLOCK_SAMPLES for at in (utterance.start, utterance.stop))
        spoken = processor.blocks[first:last]
        found = direction_of_speech(
            [block.direction_deg for block in spoken],
            [10 * np.log10(np.square(block.samples).mean() + 1e-10) for block in spoken],
        )
        truth = scene.near_direction_deg
        errors.append(180.0 if found is None else metrics.angle_error_deg(found, truth))
    return errors


def words(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
    """Word errors of tiny.en on a user who talks over the answer, +12 dB, in pink noise at 10 dB.

    `clean` is the user alone at microphone 0.
    """
    script: Script = (("far-only", 4.0), ("double-talk", 12.0))
    scene = make_scene(
        seed, script=script, rt60_s=rt60_s, echo_db=12.0, noise_snr_db=10.0, english=True
    )
    result = {"clean": word_errors(scene, scene.near[0])}
    for candidate in candidates:
        result[candidate.name] = word_errors(scene, candidate.run(scene))
    return result


def word_errors(scene: Scene, output: Samples) -> dict[str, Values]:
    """Errors and number of words, by utterance whose words are known."""
    before, after = (round(second * RATE_HZ) for second in _AROUND_UTTERANCE_S)
    result: dict[str, Values] = {"errors": [], "words": []}
    for utterance in scene.utterances:
        if not utterance.text:
            continue
        heard = output[max(0, utterance.start - before) : utterance.stop + after]
        said = normalise(utterance.text)
        compared = jiwer.process_words(said, normalise(_recogniser()(heard)))
        wrong = compared.substitutions + compared.deletions + compared.insertions
        result["errors"].append(float(wrong))
        result["words"].append(float(len(said.split())))
    return result


@cache
def _recogniser() -> Transcribe:
    folder = ensure_model(_WHISPER, root=configuration.load().models_path)
    return guarded("ctranslate2", folder, 1, "cut")


def beam(mode: Mode) -> Measure:
    """SINR gain of the beam over microphone 0 from 4 s on, another person as loud as the user.

    The chain's beam looks at the user. Its weights, found on the mixture, are applied to each
    component. `gain` takes all of the user for wanted, `direct_gain` only the direct
    path.
    """

    def measure(seed: int, rt60_s: float, candidates: Sequence[Candidate]) -> Measured:
        scene = make_scene(
            seed, script=(("near-only", 12.0),), rt60_s=rt60_s, echo_db=None, interferer_db=0.0
        )
        parts = {
            "gain": _spectra(scene.near),
            "direct_gain": _spectra(scene.near_direct),
            "rest": _spectra(scene.interferer + scene.noise),
        }
        before, after = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)
        for number, weights in enumerate(_beam_weights(scene, mode)):
            if number * BLOCK_SAMPLES >= _BEAM_SETTLED_S * RATE_HZ:
                for name, part in parts.items():
                    heard = np.einsum("cf,cf->f", weights.conj(), part[number])
                    before[name] += float(np.vdot(part[number][0], part[number][0]).real)
                    after[name] += float(np.vdot(heard, heard).real)
        rest_db = 10 * np.log10(after["rest"] / before["rest"])
        gains = {
            name: [10 * np.log10(after[name] / before[name]) - rest_db]
            for name in ("gain", "direct_gain")
        }
        return {"chain": gains}

    return measure


def _beam_weights(scene: Scene, mode: Mode) -> Iterator[Spectra]:
    """As the chain would use them on each block of a scene without far-end."""
    channels = len(scene.mic)
    geometry = circle(channels, 0.032)
    doa, moments = Doa(geometry), Moments()
    former = Beamformer(geometry, channels, mode)
    look_deg = scene.near_direction_deg
    for spectra in _spectra(scene.mic):
        doa.process(spectra)
        moment = moments.process(spectra[0], doa, look_deg)
        yield former.process(spectra, moment, look_deg=look_deg)


def _spectra(signal: Samples) -> list[Spectra]:
    """Of every block of (channels, n)."""
    analysis = Analysis(len(signal))
    blocks = range(0, signal.shape[1] - BLOCK_SAMPLES + 1, BLOCK_SAMPLES)
    return [analysis.process(signal[:, start : start + BLOCK_SAMPLES]) for start in blocks]

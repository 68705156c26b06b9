"""Silero on real speech and on noise, and the detector on what it says."""

import itertools
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ApplianceError
from appliance.vad.detector import SpeechDetector, SpeechEnded, SpeechEvent, frame_level_db
from appliance.vad.engine import FRAME_SAMPLES, SileroDetector

MODEL_DIR = Path(__file__).parents[2] / "models" / "silero-vad"
SPEECH_DIR = Path("/usr/share/pocketsphinx/test/data")
RECORDINGS = sorted([*SPEECH_DIR.glob("librivox/*.wav"), *SPEECH_DIR.glob("cards/*.wav")])
RATE = 16_000


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return pcm.astype(np.float32) / 32768


def in_room(samples: np.ndarray, before_s: float = 1.0, after_s: float = 1.5) -> np.ndarray:
    padded = np.concatenate(
        [np.zeros(int(before_s * RATE)), samples, np.zeros(int(after_s * RATE))]
    )
    noise = np.random.default_rng(1).standard_normal(len(padded)) * 3e-4
    return (padded + noise).astype(np.float32)


def detect(samples: np.ndarray, vad: SileroDetector) -> list[SpeechEvent]:
    vad.reset()
    detector = SpeechDetector()
    events: list[SpeechEvent] = []
    for position in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        frame = samples[position : position + FRAME_SAMPLES]
        events += detector.step(position, vad.probability(frame), frame_level_db(frame))
    return events + detector.flush()


def parts(events: list[SpeechEvent]) -> list[SpeechEnded]:
    return [event for event in events if isinstance(event, SpeechEnded)]


@pytest.fixture(scope="module")
def vad() -> SileroDetector:
    return SileroDetector(MODEL_DIR)


@pytest.mark.models
def test_reset_makes_it_a_function_of_the_stream(vad):
    samples = in_room(read(RECORDINGS[-1]))
    assert detect(samples, vad) == detect(samples, vad)


@pytest.mark.models
def test_several_streams_share_the_network_and_nothing_else(vad):
    one, two = (in_room(read(path)) for path in RECORDINGS[-2:])
    expected = detect(one, vad), detect(two, vad)
    vad.probability(one[RATE : RATE + FRAME_SAMPLES])  # of what it has heard nothing goes along
    streams = [vad.for_another_stream(), vad.for_another_stream()]
    detectors = [SpeechDetector(), SpeechDetector()]
    found: list[list[SpeechEvent]] = [[], []]
    for position in range(0, max(len(one), len(two)), FRAME_SAMPLES):
        for number, samples in enumerate((one, two)):
            frame = samples[position : position + FRAME_SAMPLES]
            if len(frame) == FRAME_SAMPLES:
                probability = streams[number].probability(frame)
                found[number] += detectors[number].step(
                    position, probability, frame_level_db(frame)
                )
    for number in (0, 1):
        assert found[number] + detectors[number].flush() == expected[number]


@pytest.mark.models
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem[-4:])
def test_no_speech_energy_is_cut_off_a_recording(path, vad):
    """At least 99.5 % of the energy above the noise lies inside the segments."""
    speech = read(path)
    samples = in_room(speech)
    inside = np.zeros(len(samples), bool)
    for part in parts(detect(samples, vad)):
        inside[part.start : part.audio_end] = True
    blocks = len(samples) // 160
    power = (samples[: blocks * 160].reshape(blocks, 160) ** 2).mean(axis=1)
    loud = power > power.max() * 1e-3
    kept = inside[: blocks * 160].reshape(blocks, 160).mean(axis=1)
    assert (power * kept)[loud].sum() / power[loud].sum() > 0.995


@pytest.mark.models
@pytest.mark.parametrize("level", [1e-4, 1e-2, 0.1])
def test_noise_is_not_speech(level, vad):
    noise = np.random.default_rng(2).standard_normal(RATE * 5).astype(np.float32) * level
    assert detect(noise, vad) == []


@pytest.mark.models
@pytest.mark.parametrize("milliseconds", [30, 100, 200, 400])
def test_knock_is_not_speech(milliseconds, vad):
    length = milliseconds * 16
    knock = np.random.default_rng(3).standard_normal(length) * np.hanning(length) * 0.3
    assert detect(in_room(knock), vad) == []


@pytest.mark.models
def test_a_minute_of_speech_is_split_without_a_gap(vad):
    """Speech without end is cut into pieces that join exactly."""
    speech = np.concatenate([read(path) for path in RECORDINGS if "librivox" in str(path)] * 3)
    found = parts(detect(in_room(speech), vad))
    assert sum(part.reason == "split" for part in found) >= 1
    for before, after in itertools.pairwise(found):
        assert after.start >= before.audio_end
        if before.reason == "split":
            assert after.start == before.audio_end
    covered_s = sum(part.audio_end - part.start for part in found) / RATE
    assert covered_s > 0.95 * len(speech) / RATE


@pytest.mark.models
def test_frame_of_another_length_is_refused(vad):
    with pytest.raises(ValueError, match="512"):
        vad.probability(np.zeros(480, np.float32))


def test_missing_model_names_the_repair(tmp_path):
    with pytest.raises(ApplianceError, match="appliance models fetch silero-vad"):
        SileroDetector(tmp_path / "silero-vad")


@pytest.mark.parametrize("damage", [b"", b"not a network", None])
def test_corrupt_model_names_the_repair(tmp_path, damage):
    target = tmp_path / "silero-vad"
    target.mkdir()
    if damage is None:
        if not (MODEL_DIR / "silero_vad.onnx").exists():
            pytest.skip("needs the model to truncate it")
        shutil.copy(MODEL_DIR / "silero_vad.onnx", target)
        with (target / "silero_vad.onnx").open("r+b") as file:
            file.truncate(1_000_000)
    else:
        (target / "silero_vad.onnx").write_bytes(damage)
    with pytest.raises(ApplianceError, match=r"silero_vad\.onnx cannot be used .*models fetch"):
        SileroDetector(target)

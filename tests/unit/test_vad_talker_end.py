"""The talker's end in a room that goes on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.ipc.audio_ring import Block
from appliance.messages import SpeechEnded, SpeechPaused
from appliance.vad.detector import SpeechDetector
from appliance.vad.stream import SpeechStream
from appliance.vad.talker_end import talker_end

MS = RATE_HZ // 1000
TALK_MS, PAUSE_MS, LEAD_MS = 1_500, 300, 500


def syllables(rng: np.random.Generator, length_ms: int) -> Samples:
    """Noise of a voice's tilt in bursts of 200 ms with gaps of 50 ms; ends in full voice."""
    noise = rng.standard_normal(length_ms * MS)
    noise = np.convolve(noise, [1.0, 0.8, 0.4], "same") * 0.05
    from_end = np.arange(len(noise))[::-1] // MS
    return np.where(from_end % 250 < 200, noise, 0.0).astype(np.float32)


def in_a_room(
    rng: np.random.Generator, rt60_s: float, *, noise_dbfs: float = -75.0, fade_ms: int = 0
) -> Samples:
    """Polack's model: the response is noise that decays; speech ends `PAUSE_MS` before the end."""
    dry = syllables(rng, TALK_MS)
    if fade_ms:
        dry[-fade_ms * MS :] *= np.linspace(1, 0, fade_ms * MS, dtype=np.float32)
    dry = np.pad(dry, (LEAD_MS * MS, PAUSE_MS * MS))
    time_s = np.arange(round(rt60_s * RATE_HZ)) / RATE_HZ
    response = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    response /= np.linalg.norm(response)
    wet = fftconvolve(dry, response)[: len(dry)]
    wet += rng.standard_normal(len(wet)) * 10 ** (noise_dbfs / 20)
    return wet.astype(np.float32)


def error_ms(samples: Samples) -> float:
    end = talker_end(samples)
    assert end is not None
    return (end - len(samples)) / MS + PAUSE_MS


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    rt60_s=st.floats(0.2, 0.7),
    noise_dbfs=st.sampled_from((-80.0, -70.0, -60.0)),
)
def test_the_rooms_decay_is_not_the_talkers(seed: int, rt60_s: float, noise_dbfs: float) -> None:
    """Speech that stops at once stops about there; 40 dB below it is 130 to 470 ms later."""
    samples = in_a_room(np.random.default_rng(seed), rt60_s, noise_dbfs=noise_dbfs)
    assert abs(error_ms(samples)) <= 60


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000), gain_db=st.floats(-20, 10))
def test_the_level_does_not_matter(seed: int, gain_db: float) -> None:
    samples = in_a_room(np.random.default_rng(seed), 0.4)
    louder = samples * np.float32(10 ** (gain_db / 20))
    assert talker_end(louder) == talker_end(samples)


def test_a_talker_who_fades_speaks_until_the_voice_is_some_20_db_down() -> None:
    for seed in range(5):
        error = error_ms(in_a_room(np.random.default_rng(seed), 0.3, fade_ms=100))
        assert -70 <= error <= 20


def test_what_was_long_before_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    samples = in_a_room(rng, 0.3)
    before = rng.standard_normal(10 * RATE_HZ).astype(np.float32)
    quiet = np.zeros(8 * RATE_HZ - len(samples), np.float32)
    long = np.concatenate([before, quiet, samples])
    assert talker_end(long) - len(before) == talker_end(long[-8 * RATE_HZ :])  # type: ignore[operator]


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(RATE_HZ // 20, np.float32),
        np.zeros(2 * RATE_HZ, np.float32),
        np.full(2 * RATE_HZ, 0.3, np.float32),
    ],
)
def test_without_speech_there_is_no_end_of_it(samples: Samples) -> None:
    assert talker_end(samples) is None


class LoudIsSpeech:
    def probability(self, frame: Samples) -> float:
        return 1.0 if float(np.abs(frame).mean()) > 0.005 else 0.0

    def reset(self) -> None:
        pass


def test_a_pause_says_when_its_talker_ended_and_the_end_of_speech_says_the_same() -> None:
    rng = np.random.default_rng(3)
    samples = np.concatenate([in_a_room(rng, 0.5), np.zeros(RATE_HZ, np.float32)])
    start_ns = 5_000_000_000
    blocks = [
        Block(1, n, start_ns + n * BLOCK_NS, 0, samples[n * BLOCK_SAMPLES :][:BLOCK_SAMPLES])
        for n in range(len(samples) // BLOCK_SAMPLES)
    ]
    told = SpeechStream("local", SpeechDetector(), LoudIsSpeech()).step(blocks)
    paused = next(message for message in told if isinstance(message, SpeechPaused))
    ended = next(message for message in told if isinstance(message, SpeechEnded))
    true_ns = start_ns + (LEAD_MS + TALK_MS) * 1_000_000
    assert abs(paused.talker_end_ns - true_ns) <= 60_000_000
    assert paused.talker_end_ns <= paused.speech_end_ns
    assert ended.talker_end_ns == paused.talker_end_ns

"""The bench of streaming recognition: what it hands over, and what it counts."""

import numpy as np

from appliance.bench.asr_streaming import as_vad_sends, changed, in_a_row
from appliance.bench.recordings import Recording
from appliance.config import VadConfig

RATE = 16_000


def tone(seconds: float) -> np.ndarray:
    return np.full(int(seconds * RATE), 0.1, np.float32)


def test_speech_begins_after_the_preroll_and_ends_before_the_pause():
    silence = np.zeros(RATE, np.float32)
    vad = VadConfig(preroll_ms=300, pause_ms=100)
    recording = np.concatenate((silence, tone(2.0), silence))
    audio = as_vad_sends(recording, vad, np.random.default_rng(0))
    assert len(audio) == int(2.4 * RATE)
    loud = np.flatnonzero(np.abs(audio) > 0.05)
    assert (loud[0], loud[-1] + 1) == (int(0.3 * RATE), int(2.3 * RATE))


def test_recordings_in_a_row_are_long_and_say_all_their_words():
    recordings = [Recording(str(n), tone(4.0), f"Number {n}.") for n in range(13)]
    rows = list(in_a_row(recordings, np.random.default_rng(0)))
    assert all(20.0 <= row.seconds <= 26.0 for row in rows)
    said = " ".join(row.text for row in rows).split()
    assert len(said) == len(set(said) - {"number"}) * 2
    assert len(rows) == 2


def test_stable_words_are_held_against_the_final_ones():
    final = ["please", "turn", "on", "the", "light"]
    assert changed(["please", "turn", "on"], final) == 0
    assert changed(["please", "burn", "on"], final) == 1
    assert changed(["oh", "please", "turn", "on"], final) == 1
    assert changed([], final) == 0

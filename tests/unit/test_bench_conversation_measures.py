"""What is measured in a recording of the loudspeaker: right within 5 ms, whatever is played."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.blocks import Samples
from appliance.bench.conversation_measures import (
    Playing,
    active_end,
    audible_at,
    ducked_ms,
    longest_gap_ms,
    percentile,
    share_percent,
    silent_ms,
    words_heard,
)

RATE_HZ = 16_000
START_NS = 5_000_000_000
TOLERANCE_MS = 5.0


def ms(milliseconds: float) -> int:
    """Time in the recording."""
    return START_NS + round(milliseconds * 1e6)


def noise(length_ms: int, seed: int = 0, level: float = 0.1) -> Samples:
    samples = np.random.default_rng(seed).standard_normal(length_ms * RATE_HZ // 1000)
    return np.asarray(level * samples, np.float32)


def speech(length_ms: int, seed: int = 0) -> Samples:
    """Syllables of 150 ms with 50 ms of silence between them, each of another level."""
    samples = noise(length_ms, seed)
    time_ms = np.arange(len(samples)) * 1000 / RATE_HZ
    levels = np.random.default_rng(seed).uniform(0.5, 1.0, length_ms // 200 + 1)
    gate = np.where(time_ms % 200 < 150, levels[(time_ms // 200).astype(int)], 0)
    return np.asarray(samples * gate, np.float32)


def gain(samples: Samples, at_ms: float, factor: float) -> Samples:
    changed: Samples = samples.copy()
    changed[round(at_ms * RATE_HZ / 1000) :] *= factor
    return changed


def playing(samples: Samples) -> Playing:
    return Playing(START_NS, samples, RATE_HZ)


@settings(max_examples=30, deadline=None)
@given(
    onset_ms=st.integers(2000, 3000),
    after_ms=st.integers(10, 900),
    drop_db=st.sampled_from([18.0, 30.0]),
    seed=st.integers(0, 50),
)
def test_ducking_of_a_steady_sound(onset_ms: int, after_ms: int, drop_db: float, seed: int) -> None:
    heard = gain(noise(5000, seed), onset_ms + after_ms, 10 ** (-drop_db / 20))
    found = ducked_ms(playing(heard), ms(onset_ms))
    assert found == pytest.approx(after_ms, abs=TOLERANCE_MS)


@settings(max_examples=30, deadline=None)
@given(onset_ms=st.integers(2000, 3000), after_ms=st.integers(60, 900), seed=st.integers(0, 50))
def test_ducking_of_speech_is_off_by_a_gap_at_most(onset_ms: int, after_ms: int, seed: int) -> None:
    heard = gain(speech(5000, seed), onset_ms + after_ms, 10 ** (-18 / 20))
    found = ducked_ms(playing(heard), ms(onset_ms))
    assert found is not None
    assert after_ms - 50 - TOLERANCE_MS <= found <= after_ms + TOLERANCE_MS


def test_too_little_lower_is_not_ducked() -> None:
    heard = gain(noise(5000), 3000, 10 ** (-7 / 20))
    assert ducked_ms(playing(heard), ms(2500)) is None
    assert ducked_ms(playing(speech(5000)), ms(2500)) is None


def test_nothing_played_before_is_not_ducked() -> None:
    assert ducked_ms(playing(np.zeros(RATE_HZ * 5, np.float32)), ms(2500)) is None


@settings(max_examples=30, deadline=None)
@given(onset_ms=st.integers(1000, 3000), after_ms=st.integers(0, 900), seed=st.integers(0, 50))
def test_silence(onset_ms: int, after_ms: int, seed: int) -> None:
    heard = gain(noise(5000, seed), onset_ms + after_ms, 0)
    found = silent_ms(playing(heard), ms(onset_ms))
    assert found == pytest.approx(after_ms, abs=TOLERANCE_MS)


def test_pauses_between_words_are_no_silence() -> None:
    assert silent_ms(playing(speech(5000)), ms(1000)) is None
    assert audible_at(playing(speech(5000)), ms(1175))  # in a gap


def test_audible_only_between_sounds() -> None:
    heard = playing(gain(noise(3000), 1500, 0))
    assert audible_at(heard, ms(1400))
    assert not audible_at(heard, ms(1700))


def test_the_gap_that_touches_the_time_counts_in_full() -> None:
    samples = noise(3000)
    samples[RATE_HZ : RATE_HZ + RATE_HZ * 3 // 10] = 0  # 1000 to 1300 ms
    heard = playing(samples)
    assert longest_gap_ms(heard, ms(1250), ms(2000)) == pytest.approx(300, abs=1)
    assert longest_gap_ms(heard, ms(1400), ms(2000)) < 1


def test_the_end_of_the_recording_is_a_gap() -> None:
    assert longest_gap_ms(playing(gain(noise(3000), 2500, 0)), ms(2000), ms(2900)) == pytest.approx(
        500, abs=1
    )


def test_words_heard_forgives_only_what_is_added() -> None:
    assert words_heard("How many legs?", "Well then, how many legs") == 1
    assert words_heard("How many legs?", "how many eggs") == pytest.approx(2 / 3)
    assert words_heard("How many legs?", "") == 0


def test_figures_of_nothing_are_none() -> None:
    assert percentile([], 50) is None
    assert share_percent(0, 0) is None
    assert share_percent(1, 8) == 12.5


@pytest.mark.parametrize(("below_db", "counts"), [(10.0, True), (25.0, False)])
def test_speech_ends_where_it_is_15_9_db_below_its_active_level(
    below_db: float, counts: bool
) -> None:
    said = noise(1_000)
    release = noise(100, seed=1, level=0.1 * 10 ** (-below_db / 20))
    silence = np.zeros(RATE_HZ // 5, np.float32)
    end_ms = active_end(np.concatenate([said, release, silence])) * 1000 / RATE_HZ
    assert end_ms == pytest.approx(1_100 if counts else 1_000, abs=8)


def test_silence_ends_where_it_ends() -> None:
    assert active_end(np.zeros(1_000, np.float32)) == 1_000

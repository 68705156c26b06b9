"""What the panel is told of the detector's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.messages import SpeechEnded, SpeechPaused, SpeechStarted, WakeWord
from appliance.vad import detector as detection
from appliance.vad.detector import DetectorSettings, SpeechDetector
from appliance.vad.engine import FRAME_SAMPLES, SAMPLE_RATE_HZ
from appliance.vad.scores import CERTAIN, KEPT_FRAMES, ScoredDetector

NS = 1_000_000_000 // SAMPLE_RATE_HZ
EPOCH_NS = 77_000_000_000
"""When sample 0 was captured."""


def message_of(event: detection.SpeechEvent) -> object:
    times = {
        "session_id": "remote.2",
        "utterance_id": "u",
        "spans": (),
        "speech_start_ns": EPOCH_NS + event.start * NS,
    }
    match event:
        case detection.SpeechPaused():
            return SpeechPaused(**times, speech_end_ns=0)
        case detection.SpeechEnded():
            return SpeechEnded(**times, speech_end_ns=0, decided_ns=0)
    return SpeechStarted(**times)


def test_at_a_pause_it_tells_each_frame_since_the_last_time_and_when_it_was():
    settings = DetectorSettings()
    detector = ScoredDetector(settings)
    given_ = [0.0] * 10 + [0.95] * 20 + [0.1] * 40
    told, position, heard = [], 0, []
    for probability in given_:
        events = detector.step(position, probability, -30.0)
        position += FRAME_SAMPLES
        heard.append(round(CERTAIN * probability))
        if scores := detector.told([message_of(event) for event in events]):
            assert scores.end_ns == EPOCH_NS + position * NS
            assert list(scores.scores) == heard, "each frame once"
            heard = []
            told.append(scores)
    assert len(told) == 2, "at the pause, and at the end"
    assert (told[0].session_id, told[0].frame_ms) == ("remote.2", 32.0)
    assert told[0].start_threshold == settings.start_threshold
    assert told[0].stop_threshold == settings.stop_threshold


def test_nothing_is_told_without_a_pause():
    detector = ScoredDetector(DetectorSettings())
    call = WakeWord(session_id="local", name="x", end_ns=0, probability=1.0)
    events = [e for n in range(30) for e in detector.step(n * FRAME_SAMPLES, 0.9, -30.0)]
    assert events
    assert detector.told([call, *map(message_of, events)]) is None


def test_hours_of_silence_are_bounded_and_a_gap_counts_as_silence():
    detector = ScoredDetector(DetectorSettings())
    for n in range(5_000):
        detector.step(n * FRAME_SAMPLES, 0.0, -90.0)
    assert len(detector._scores) == KEPT_FRAMES
    pause = message_of(detection.SpeechPaused(0, 0, 0, 0))
    assert set(detector.told([pause]).scores) == {0}
    detector.step(10**9 * FRAME_SAMPLES, 1.0, -30.0)
    scores = detector.told([pause]).scores
    assert len(scores) == KEPT_FRAMES and scores[-1] == CERTAIN and sum(scores) == CERTAIN


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 0, 3, 700])), max_size=200))
def test_it_decides_as_it_would_without(frames):
    plain, scored = SpeechDetector(), ScoredDetector(DetectorSettings())
    position = 0
    for probability, missing in frames:
        position += missing * FRAME_SAMPLES
        events = scored.step(position, probability, -30.0)
        assert events == plain.step(position, probability, -30.0)
        if scores := scored.told([message_of(event) for event in events]):
            assert all(0 <= score <= CERTAIN for score in scores.scores)
        position += FRAME_SAMPLES


def test_a_frame_of_the_past_is_an_error_as_ever():
    detector = ScoredDetector(DetectorSettings())
    detector.step(FRAME_SAMPLES, 0.5, -30.0)
    with pytest.raises(ValueError, match="comes after"):
        detector.step(0, 0.5, -30.0)

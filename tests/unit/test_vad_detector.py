"""The speech detector over made-up probabilities: what it must hold for every input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import VadConfig
from appliance.vad.detector import (
    DetectorSettings,
    SpeechDetector,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    State,
    frame_level_db,
)
from appliance.vad.engine import FRAME_SAMPLES
from appliance.vad.main import detector_settings

MS = 16
"""Samples in a millisecond."""
SHORT = DetectorSettings(max_segment_s=4.0, split_search_s=2.0)


def play(
    probabilities: list[float],
    detector: SpeechDetector | None = None,
    *,
    first_frame: int = 0,
    levels: list[float] | None = None,
) -> list[SpeechEvent]:
    detector = detector or SpeechDetector()
    events: list[SpeechEvent] = []
    for index, probability in enumerate(probabilities):
        level = levels[index] if levels else -30.0
        events += detector.step((first_frame + index) * FRAME_SAMPLES, probability, level)
    return events


def frames(milliseconds: float, probability: float) -> list[float]:
    return [probability] * round(milliseconds / 32)


def segments(events: list[SpeechEvent]) -> list[SpeechEnded]:
    return [event for event in events if isinstance(event, SpeechEnded)]


def test_utterance_is_one_segment_with_pre_roll_and_post_roll():
    events = play(frames(1024, 0.01) + frames(1024, 0.95) + frames(1600, 0.01))
    started, paused, ended = events
    assert isinstance(started, SpeechStarted)
    assert isinstance(paused, SpeechPaused)
    assert isinstance(ended, SpeechEnded)
    assert started.start == (1024 - 300) * MS
    assert paused.end == ended.end == 2048 * MS
    assert ended.audio_end == (2048 + 200) * MS
    assert paused.audio_end == paused.decided_at == (2048 + 32) * MS
    assert ended.decided_at == (2048 + 800) * MS
    assert ended.reason == "silence"


def test_onset_needs_250_ms_of_speech():
    detector = SpeechDetector()
    assert play(frames(256, 0.9), detector) == []  # 230 ms when weighted by probability
    assert detector.state is State.STARTING
    (started,) = play([0.9], detector, first_frame=8)
    assert isinstance(started, SpeechStarted)
    assert detector.state is State.SPEAKING


def test_speech_going_on_resumes_and_moves_the_end():
    events = play(
        frames(640, 0.9) + frames(320, 0.0) + frames(640, 0.9) + frames(960, 0.0),
    )
    kinds = [type(event) for event in events]
    assert kinds == [SpeechStarted, SpeechPaused, SpeechResumed, SpeechPaused, SpeechEnded]
    resumed = events[2]
    assert isinstance(resumed, SpeechResumed)
    assert resumed.resumed_at == 960 * MS
    assert segments(events)[0].end == 1600 * MS


def test_gap_shorter_than_a_pause_is_not_told():
    spoken = frames(640, 0.9) + frames(96, 0.0) + frames(640, 0.9)
    events = play(spoken, SpeechDetector(DetectorSettings(pause_ms=100)))
    assert [type(event) for event in events] == [SpeechStarted]


def test_a_gap_in_a_beginning_is_longer_than_a_pause():
    events = play(frames(512, 0.01) + frames(160, 0.9) + [0.0] + frames(160, 0.9))
    assert [type(event) for event in events] == [SpeechStarted]


def test_click_in_a_pause_neither_resumes_nor_delays_the_end():
    events = play(frames(640, 0.9) + frames(320, 0.0) + [0.99] + frames(960, 0.0))
    assert [type(event) for event in events] == [SpeechStarted, SpeechPaused, SpeechEnded]
    assert segments(events)[0].end == 640 * MS


def test_isolated_short_word_is_a_segment():
    events = play(frames(512, 0.01) + frames(128, 0.97) + frames(960, 0.01))
    assert [type(event) for event in events] == [SpeechStarted, SpeechPaused, SpeechEnded]
    assert segments(events)[0].start == (512 - 300) * MS
    assert segments(events)[0].end == 640 * MS


@pytest.mark.parametrize("burst", [frames(64, 0.99), frames(224, 0.6), frames(2000, 0.45)])
def test_click_cough_and_murmur_yield_nothing(burst):
    assert play(frames(512, 0.01) + burst + frames(2000, 0.01)) == []


def test_regular_clicks_never_add_up_to_speech():
    assert play([0.9, *frames(128, 0.0)] * 200) == []


def test_speech_that_begins_as_the_segment_ends_is_not_lost():
    """One frame of the next word falls before the fallback: its evidence must count."""
    word = frames(96, 0.999)
    events = play(frames(640, 0.9) + frames(768, 0.0) + word + frames(64, 0.999) + frames(960, 0.0))
    first, second = segments(events)
    assert first.audio_end <= second.start <= (640 + 768) * MS < second.end


def test_how_much_was_surely_a_voice_is_told() -> None:
    sure, doubtful = frames(960, 0.95), frames(960, 0.7)
    events = play(frames(512, 0.01) + sure + doubtful + frames(320, 0.01) + sure + frames(900, 0.0))
    paused, ended = (e for e in events if isinstance(e, SpeechPaused)), segments(events)
    assert [event.voiced for event in paused] == [960 * MS, 1920 * MS]
    assert [event.voiced for event in ended] == [1920 * MS]


def test_a_split_loses_nothing_of_how_much_was_a_voice() -> None:
    speech = frames(6016, 0.95)
    events = segments(play(speech + frames(1600, 0.01), SpeechDetector(SHORT)))
    assert len(events) > 1
    assert sum(event.voiced for event in events) == 6016 * MS


def test_long_speech_is_split_at_its_quietest_frame_without_a_gap():
    levels = [-20.0] * 300
    levels[100:105] = [-50.0] * 5
    detector = SpeechDetector(SHORT)
    events = play([0.95] * 300, detector, levels=levels) + detector.flush()
    parts = segments(events)
    assert parts[0].end == round(102.5 * FRAME_SAMPLES)
    assert [part.reason for part in parts] == ["split"] * (len(parts) - 1) + ["flush"]
    for before, after in itertools.pairwise(parts):
        assert before.audio_end == after.start
    assert parts[0].start == 0
    assert parts[-1].end == 300 * FRAME_SAMPLES


def test_lost_frames_count_as_silence():
    detector = SpeechDetector()
    play(frames(640, 0.9), detector)
    events = detector.step(640 * MS + 2000 * MS, 0.9, -30.0)
    assert [type(event) for event in events] == [SpeechPaused, SpeechEnded]
    assert segments(events)[0].end == 640 * MS


def test_frame_from_the_past_is_refused():
    detector = SpeechDetector(position=1024)
    with pytest.raises(ValueError, match="comes after"):
        detector.step(512, 0.1, -30.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_threshold": 0.3},
        {"pause_ms": 900},
        {"onset_ms": 600},
        {"split_search_s": 20.0},
    ],
)
def test_contradicting_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        DetectorSettings(**wrong)


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("onset_ms", "onset_ms"),
        ("preroll_ms", "pre_roll_ms"),
        ("pause_ms", "pause_ms"),
        ("fallback_ms", "end_ms"),
        ("max_segment_s", "max_segment_s"),
    ],
)
def test_the_limits_of_the_configuration_are_good_for_the_detector(key, setting):
    limits = {type(limit).__name__: limit for limit in VadConfig.model_fields[key].metadata}
    for value in (limits["Ge"].ge, limits["Le"].le):
        config = VadConfig(**{"pause_ms": 64, "fallback_ms": 5000, key: value})
        assert getattr(detector_settings(config), setting) == value


def test_level_of_silence_and_full_scale():
    assert frame_level_db(np.zeros(512, np.float32)) == -120.0
    assert frame_level_db(np.ones(512, np.float32)) == 0.0


runs = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from([0.0, 0.2, 0.4, 0.55, 0.8, 0.95, 1.0])),
    max_size=25,
).map(lambda parts: [p for length, p in parts for _ in range(length)])


@settings(max_examples=150, deadline=None)
@given(runs)
def test_segments_are_well_formed_and_disjoint(probabilities):
    detector = SpeechDetector(SHORT)
    events = play(probabilities, detector) + detector.flush()
    open_start: int | None = None
    paused = False
    last_audio_end = 0
    last_decided = 0
    for event in events:
        assert event.decided_at >= last_decided
        last_decided = event.decided_at
        if isinstance(event, SpeechStarted):
            assert open_start is None
            assert event.start >= last_audio_end
            open_start, paused = event.start, False
            continue
        assert event.start == open_start
        if isinstance(event, SpeechPaused):
            assert not paused
            assert event.start < event.end <= event.audio_end <= event.decided_at
            paused = True
        elif isinstance(event, SpeechResumed):
            assert paused
            assert event.start < event.resumed_at < event.decided_at
            paused = False
        else:
            assert event.start < event.end <= event.audio_end <= event.decided_at
            limit_samples = (SHORT.max_segment_s * 1000 + SHORT.end_ms + 32) * MS
            assert event.audio_end - event.start <= limit_samples
            last_audio_end, open_start = event.audio_end, None
    assert open_start is None
    assert detector.open_segment is None


@settings(max_examples=150, deadline=None)
@given(runs)
def test_every_clear_speech_frame_is_in_exactly_one_segment(probabilities):
    detector = SpeechDetector(SHORT)
    quiet = [0.0] * 40
    parts = segments(play(quiet + probabilities + quiet, detector) + detector.flush())
    run: list[int] = []
    for index, probability in enumerate([*quiet, *probabilities, *quiet]):
        if probability >= 0.95:
            run.append(index)
            continue
        if len(run) >= 9:  # an onset's worth: 256 ms and more
            for frame in run:
                middle = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
                assert sum(part.start <= middle < part.audio_end for part in parts) == 1
        run = []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 0.499), max_size=400))
def test_nothing_below_the_start_threshold_is_ever_speech(probabilities):
    assert play(probabilities) == []


@settings(max_examples=100, deadline=None)
@given(runs, st.integers(0, 15))
def test_successor_that_replays_from_a_silence_decides_the_same(probabilities, later):
    quiet = [0.0] * 60
    whole = [*probabilities, *quiet, *probabilities, *quiet]
    restart = len(probabilities) + 30 + later
    original = play(whole, SpeechDetector(SHORT))
    successor = SpeechDetector(SHORT, position=restart * FRAME_SAMPLES)
    replayed = play(whole[restart:], successor, first_frame=restart)
    assert replayed == [event for event in original if event.decided_at > restart * FRAME_SAMPLES]

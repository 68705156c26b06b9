"""From ring blocks to speech messages: names, times and restarts."""

from __future__ import annotations

import itertools
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, Samples
from appliance.ipc.audio_ring import Block
from appliance.messages import (
    Company,
    Message,
    NearEnd,
    Span,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechStarted,
)
from appliance.vad.detector import SpeechDetector
from appliance.vad.direction import direction_of_speech
from appliance.vad.edges import refine_end
from appliance.vad.stream import SpeechStream, without_stale

M = TypeVar("M", bound=Message)
MS = 1_000_000
T0 = 5_000_000_000


class LoudIsSpeech:
    """A detector for tests: loud frames are speech."""

    def probability(self, frame: Samples) -> float:
        return 1.0 if float(np.abs(frame).mean()) > 0.05 else 0.0

    def reset(self) -> None:
        pass


def blocks(
    loud_ms: list[tuple[int, int]], length_ms: int, epoch: int = 7, first: int = 0, at_ns: int = T0
) -> list[Block]:
    """Blocks that are loud in the given stretches (milliseconds from the first block)."""
    result = []
    for n in range(length_ms // 10):
        loud = any(a <= n * 10 < b for a, b in loud_ms)
        samples = np.full(BLOCK_SAMPLES, 0.1 if loud else 0.0, np.float32)
        result.append(Block(epoch, first + n, at_ns + n * BLOCK_NS, 0, samples))
    return result


def believed(whole: list[Block], near_end: float) -> list[Block]:
    """The same blocks with this belief in the user's voice."""
    return [
        Block(b.epoch, b.sequence, b.captured_ns, 0, b.samples, near_end=near_end) for b in whole
    ]


def stream() -> SpeechStream:
    return SpeechStream("local", SpeechDetector(), LoudIsSpeech())


def only(kind: type[M], messages: list[Message]) -> list[M]:
    return [m for m in messages if isinstance(m, kind)]


def told(messages: list[Message]) -> list[SpeechEvent]:
    """What is said about segments, but for that they go on."""
    return [m for m in only(SpeechEvent, messages) if not isinstance(m, SpeechContinued)]


def test_names_and_times_of_an_utterance() -> None:
    messages = stream().step(blocks([(1_000, 2_000)], 3_500))
    names = [type(m).__name__ for m in told(messages)]
    assert names == ["SpeechStarted", "SpeechPaused", "SpeechEnded"]
    ended = only(SpeechEnded, messages)[0]
    assert ended.speech_end_ns == T0 + 2_000 * MS
    assert ended.speech_start_ns == pytest.approx(T0 + 700 * MS, abs=40 * MS)
    (span,) = ended.spans
    assert span.epoch == 7
    assert span.first <= 70
    assert span.last >= 199
    assert ended.decided_ns == pytest.approx(T0 + 2_800 * MS, abs=70 * MS)


def test_lost_blocks_do_not_shift_the_names_of_later_ones() -> None:
    whole = blocks([(1_000, 2_000)], 3_500)
    messages = stream().step(whole[:20] + whole[50:])
    (span,) = only(SpeechEnded, messages)[0].spans
    assert span.first == pytest.approx(70, abs=4)


def test_speech_across_a_restart_of_capture_is_one_utterance_of_two_spans() -> None:
    before = blocks([(500, 1_500)], 1_500, epoch=7, first=100)
    after = blocks([(0, 500)], 2_000, epoch=9, first=0, at_ns=T0 + 1_600 * MS)  # 100 ms lost
    messages = stream().step(before + after)
    ended = only(SpeechEnded, messages)
    assert len(ended) == 1
    assert [s.epoch for s in ended[0].spans] == [7, 9]
    assert ended[0].spans[0].last == 249
    assert ended[0].spans[1].first == 0
    assert ended[0].speech_end_ns == T0 + 2_100 * MS


def test_a_successor_that_replays_says_the_same() -> None:
    whole = blocks([(1_000, 2_000), (4_000, 5_000)], 6_500)
    before = stream().step(whole)
    again = stream().step(whole[304:])  # attaches in the silence between
    assert [m.utterance_id for m in told(again)] == [
        m.utterance_id for m in told(before) if m.speech_start_ns > T0 + 3_040 * MS
    ]
    assert only(SpeechEnded, again)[0].speech_end_ns == only(SpeechEnded, before)[-1].speech_end_ns


def test_events_come_as_soon_as_blocks_do() -> None:
    one_by_one = stream()
    messages: list[Message] = []
    for block in blocks([(1_000, 2_000)], 3_500):
        out = one_by_one.step([block])
        for message in out:
            if isinstance(message, SpeechPaused):
                assert block.captured_ns - message.speech_end_ns < 260 * MS
            if isinstance(message, SpeechStarted):
                assert isinstance(message.spans[0], Span)
        messages += out
    assert messages == stream().step(blocks([(1_000, 2_000)], 3_500))


@given(st.integers(20, 60), st.integers(-20, 20), st.floats(-75, -45))
def test_the_end_is_found_near_a_wrong_hint_in_noise(end: int, error: int, noise_db: float) -> None:
    rng = np.random.default_rng(1)
    levels = noise_db + rng.uniform(-2, 2, 100)
    levels[:end] = -20 + rng.uniform(-5, 0, end)
    assert refine_end(levels, max(1, end + error)) == end


def test_without_any_contrast_the_detector_is_believed() -> None:
    assert refine_end(np.full(50, -60.0), 30) == 30
    assert refine_end(np.zeros(0), 0) == 0


def test_an_utterance_says_where_it_comes_from() -> None:
    it, messages = stream(), []
    whole = blocks([(1_000, 2_000)], 3_500)
    for first in range(0, len(whole), 2):  # as capture announces them
        loud = whole[first].samples.any()
        turn = {130: 90.0, 140: None}.get(first, 359.0 if first % 4 else 3.0)
        messages += it.step(whole[first : first + 2], direction_deg=turn if loud else 180.0)
    events = told(messages)
    assert [type(m).__name__ for m in events] == ["SpeechStarted", "SpeechPaused", "SpeechEnded"]
    for message in events:
        assert message.direction_deg in (359.0, 3.0)


def test_without_directions_none_is_claimed() -> None:
    messages = stream().step(blocks([(1_000, 2_000)], 3_500))
    assert all(message.direction_deg is None for message in told(messages))


USER_DEG, TELEVISION_DEG = 37.0, 150.0


def heard_beside(company: Company, direction_deg: float, *, aside: bool) -> list[Message]:
    """A second of speech from there, as it is told of."""
    it, messages = stream(), []
    it.company(company)
    whole = blocks([(500, 1_500)], 3_000)
    for first in range(0, len(whole), 2):
        messages += it.step(whole[first : first + 2], direction_deg=direction_deg, aside=aside)
    return messages


@pytest.mark.parametrize(
    ("engaged", "background", "direction", "aside", "listened"),
    [
        (True, (), TELEVISION_DEG, True, False),
        (True, (), TELEVISION_DEG, False, True),  # the partner speaks, too
        (True, (), USER_DEG, True, True),
        (False, (), TELEVISION_DEG, True, True),  # nobody has the floor: a second person
        (False, (TELEVISION_DEG,), TELEVISION_DEG, True, False),
        (False, (TELEVISION_DEG,), 250.0, True, True),
    ],
)
def test_who_is_not_meant_is_left_out(
    engaged: bool,
    background: tuple[float, ...],
    direction: float,
    aside: bool,
    listened: bool,
) -> None:
    company = Company(
        session_id="local", partner_deg=USER_DEG, engaged=engaged, background_deg=background
    )
    messages = heard_beside(company, direction, aside=aside)
    assert bool(only(SpeechStarted, messages)) is listened
    asides = only(SpeechAside, messages)
    assert bool(asides) is not listened
    assert all(message.direction_deg == direction for message in asides)
    assert sum(message.voiced_ms for message in asides) <= 1_000


def test_an_announcement_speaks_only_for_its_own_blocks() -> None:
    messages = stream().step(blocks([(1_000, 2_000)], 2_000), direction_deg=45.0)
    (started,) = only(SpeechStarted, messages)
    assert started.direction_deg is None


@given(
    st.floats(0, 359.9),
    st.lists(st.floats(-8, 8), min_size=3, max_size=300),
    st.lists(st.floats(0, 359), max_size=2),
)
def test_the_median_direction_is_among_the_many(
    truth: float, errors: list[float], outliers: list[float]
) -> None:
    directions = [(truth + error) % 360 for error in errors] + outliers
    found = direction_of_speech(directions, [-20.0] * len(directions))
    assert found is not None
    assert 0 <= found < 360
    assert abs((found - truth + 180) % 360 - 180) <= 8.001


def test_quiet_blocks_do_not_count() -> None:
    directions = [10.0] * 3 + [200.0] * 50
    assert direction_of_speech(directions, [-20.0] * 3 + [-50.0] * 50) == 10.0
    assert direction_of_speech([None] * 5, [-20.0] * 5) is None


@pytest.mark.parametrize(("near_end", "heard"), [(1.0, True), (0.8, True), (0.2, False)])
def test_what_is_left_of_an_echo_is_not_speech(near_end: float, heard: bool) -> None:
    it, messages = stream(), []
    whole = believed(blocks([(1_000, 2_000)], 3_500), near_end)
    for first in range(0, len(whole), 2):
        messages += it.step(whole[first : first + 2])
    assert bool(only(SpeechStarted, messages)) is heard


def test_a_successor_that_replays_an_answer_takes_it_for_the_echo_that_it_was() -> None:
    whole = blocks([(1_000, 2_000), (4_000, 5_000)], 6_500)
    echo_then_user = believed(whole[:300], 0.1) + whole[300:]
    (started,) = only(SpeechStarted, stream().step(echo_then_user))
    assert started.speech_start_ns == pytest.approx(T0 + 3_700 * MS, abs=40 * MS)


def test_speech_is_told_three_times_a_second_while_it_lasts() -> None:
    messages = stream().step(blocks([(1_000, 3_000), (3_500, 4_500)], 6_000))
    names = [type(m).__name__ for m in only(SpeechEvent, messages)]
    paused, resumed = names.index("SpeechPaused"), names.index("SpeechResumed")
    assert names[:paused] == ["SpeechStarted"] + ["SpeechContinued"] * 5
    assert resumed == paused + 1
    assert names[resumed + 1 : resumed + 3] == ["SpeechContinued"] * 2
    ends = [m.spans[-1].last * 10 for m in only(SpeechContinued, messages)][:5]
    assert all(330 <= later - earlier <= 370 for earlier, later in itertools.pairwise(ends))
    assert all(m.spans[0].first <= 70 for m in only(SpeechContinued, messages))


def test_the_reflex_is_told_on_every_change_long_before_speech_is_certain() -> None:
    it = stream()
    messages: list[Message] = []
    first_told_ns = 0
    for block in blocks([(1_000, 2_000)], 3_500):
        messages += (out := it.step([block]))
        first_told_ns = first_told_ns or (block.captured_ns if out else 0)
    begun, over = only(NearEnd, messages)
    assert (begun.active, over.active) == (True, False)
    assert messages.index(begun) < messages.index(only(SpeechStarted, messages)[0])
    assert abs(begun.onset_ns - (T0 + 1_000 * MS)) <= 32 * MS
    assert begun.onset_ns == over.onset_ns
    assert first_told_ns <= T0 + 1_064 * MS
    assert not begun.far_end_active


def test_the_reflex_says_whether_the_loudspeaker_played() -> None:
    whole = blocks([(1_000, 1_200)], 2_000)
    it = stream()
    messages = it.step(whole[:110], far_end_active=True) + it.step(whole[110:])
    assert [m.far_end_active for m in only(NearEnd, messages)] == [True, True]


def test_of_a_backlog_only_what_is_still_so_is_told() -> None:
    whole = blocks([(1_000, 3_000), (3_500, 4_500)], 6_000)
    backlog = without_stale(stream().step(whole))
    assert only(SpeechContinued, backlog) == []
    assert [m.active for m in only(NearEnd, backlog)] == [False]
    assert [type(m).__name__ for m in told(backlog)] == [
        type(m).__name__ for m in told(stream().step(whole))
    ]
    speaking = stream().step(whole[:280])
    assert without_stale(speaking)[-1] == only(SpeechContinued, speaking)[-1]
    assert len(only(SpeechContinued, without_stale(speaking))) == 1


def test_without_a_backlog_nothing_is_kept_back() -> None:
    it = stream()
    for block in blocks([(1_000, 3_000), (3_500, 4_500)], 6_000):
        messages = it.step([block])
        assert without_stale(messages) == messages

"""The playback queue: no clicks, exact accounting, events at the right frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.player import PlaybackEventKind, PlaybackQueue

RATE_HZ = 8000
FADE_MS = 5.0
FADE = 40
BLOCK = 80


def dc(count: int, level: float = 0.5) -> np.ndarray:
    """A constant: every jump in the output is the queue's doing."""
    return np.full(count, level, np.float32)


def render_all(queue: PlaybackQueue, blocks: int) -> np.ndarray:
    silence = np.zeros(BLOCK, np.float32)
    return np.concatenate([b if (b := queue.render(BLOCK)) is not None else silence
                           for _ in range(blocks)])  # fmt: skip


def kinds(queue: PlaybackQueue) -> list[tuple[str, str]]:
    return [(event.kind.value, event.utterance_id) for event in queue.take_events()]


def test_silence_is_none() -> None:
    queue = PlaybackQueue(RATE_HZ)
    assert queue.render(BLOCK) is None
    assert queue.frame == BLOCK


def test_audio_comes_out_unchanged_between_its_fades() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    speech = np.random.default_rng(1).uniform(-1, 1, 1000).astype(np.float32)
    for start in range(0, 1000, 130):
        queue.enqueue("a", speech[start : start + 130])
    queue.finish("a")
    played = render_all(queue, 13)
    np.testing.assert_array_equal(played[FADE : 1000 - FADE], speech[FADE : 1000 - FADE])
    assert not played[1000:].any()
    assert np.abs(played[:1000]).max() <= 1


def test_events_name_the_exact_frames() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.render(BLOCK)
    queue.enqueue("a", np.concatenate([np.zeros(100, np.float32), dc(200)]))
    queue.finish("a")
    render_all(queue, 5)
    started, drained = queue.take_events()
    assert started.kind is PlaybackEventKind.STARTED
    assert (started.frame, started.played_samples) == (BLOCK + 100, 100)
    assert drained.kind is PlaybackEventKind.DRAINED
    assert (drained.frame, drained.played_samples) == (BLOCK + 300, 300)


def test_utterances_follow_each_other_in_one_block() -> None:
    queue = PlaybackQueue(RATE_HZ, 1.0)
    for name in "ab":
        queue.enqueue(name, dc(100))
        queue.finish(name)
    render_all(queue, 4)
    events = queue.take_events()
    assert [(e.kind.value, e.utterance_id) for e in events] == [
        ("started", "a"),
        ("drained", "a"),
        ("started", "b"),
        ("drained", "b"),
    ]
    assert events[1].frame == 100
    assert events[3].frame == 200


def test_flush_counts_what_is_really_played_and_refuses_the_rest() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(4000))
    render_all(queue, 2)
    promised = queue.flush("a", fade_ms=3)
    assert promised == 2 * BLOCK + 24
    assert not queue.enqueue("a", dc(100))
    played = render_all(queue, 2)
    assert np.flatnonzero(played)[-1] < 24
    flushed = queue.take_events()[-1]
    assert flushed.kind is PlaybackEventKind.FLUSHED
    assert flushed.played_samples == promised
    assert queue.is_idle


def test_flush_of_a_waiting_utterance_plays_none_of_it() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(400))
    queue.enqueue("b", dc(400))
    queue.finish("a")
    render_all(queue, 1)
    assert queue.flush("b") == 0
    assert ("flushed", "b") in kinds(queue)
    render_all(queue, 6)
    assert kinds(queue) == [("drained", "a")]


def test_flush_of_something_unknown_refuses_it_later() -> None:
    queue = PlaybackQueue(RATE_HZ)
    assert queue.flush("never") == 0
    assert not queue.enqueue("never", dc(100))
    assert queue.is_idle


def test_what_has_ended_stays_ended() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(300))
    queue.finish("a")
    render_all(queue, 5)
    queue.take_events()
    assert not queue.enqueue("a", dc(300))
    queue.finish("a")
    assert queue.flush("a") == 300
    render_all(queue, 2)
    assert queue.take_events() == []


def test_an_utterance_without_audio_drains_in_its_turn() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(300))
    queue.finish("empty")
    queue.finish("a")
    render_all(queue, 5)
    assert kinds(queue) == [("started", "a"), ("drained", "a"), ("drained", "empty")]


def test_underflow_is_counted_once_and_resumed() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(300))
    first = render_all(queue, 8)
    assert kinds(queue) == [("started", "a"), ("underflow", "a")]
    assert queue.underflows == 1
    assert not first[300:].any()
    queue.enqueue("a", dc(300))
    queue.finish("a")
    second = render_all(queue, 8)
    assert kinds(queue) == [("drained", "a")]
    assert queue.underflows == 1
    assert np.count_nonzero(first) + np.count_nonzero(second) >= 600 - 2


def test_an_end_that_was_announced_is_no_underflow() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(300))
    render_all(queue, 2)
    queue.finish("a")
    render_all(queue, 4)
    assert kinds(queue) == [("started", "a"), ("drained", "a")]


def test_gain_reaches_its_target_and_stays() -> None:
    queue = PlaybackQueue(RATE_HZ, 1.0)
    queue.enqueue("a", dc(8000, 1.0))
    render_all(queue, 2)
    queue.ramp_gain(0.25, 20)
    ramp = render_all(queue, 4)
    assert ramp[159] == pytest.approx(0.25)
    assert ramp[-1] == pytest.approx(0.25)
    assert np.all(np.diff(ramp) <= 1e-6)
    queue.ramp_gain(1.0, 10)
    assert render_all(queue, 2)[-1] == 1.0


def test_nothing_held_plays_and_its_release_queues_it_behind_what_plays() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.hold("held")
    queue.enqueue("held", dc(200))
    queue.finish("held")
    assert not render_all(queue, 5).any()
    assert queue.progress("held") == (0, 200)
    queue.enqueue("a", dc(300))
    render_all(queue, 1)
    queue.release("held")
    queue.finish("a")
    render_all(queue, 8)
    assert kinds(queue) == [("started", "a"), ("drained", "a"), ("started", "held"),
                            ("drained", "held")]  # fmt: skip
    assert queue.progress("held") == (200, 0)


def test_a_release_is_heard_in_the_next_block() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.hold("a")
    queue.enqueue("a", dc(400))
    render_all(queue, 2)
    queue.release("a")
    assert render_all(queue, 1)[FADE] == 0.5


def test_what_is_held_can_be_dropped() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.hold("a")
    queue.enqueue("a", dc(400))
    assert queue.flush("a") == 0
    queue.release("a")
    assert not render_all(queue, 3).any()
    assert queue.is_idle


def test_the_frame_where_a_gain_is_reached_is_told() -> None:
    queue = PlaybackQueue(RATE_HZ, 1.0)
    queue.enqueue("a", dc(8000, 1.0))
    render_all(queue, 2)
    queue.take_events()
    queue.ramp_gain(0.25, 15)
    ramp = render_all(queue, 3)
    (reached,) = queue.take_events()
    assert (reached.kind.value, reached.utterance_id) == ("gain_reached", "a")
    assert reached.frame == 2 * BLOCK + 120
    assert ramp[119] == pytest.approx(0.25)
    assert ramp[118] > 0.25


def test_a_pause_fades_out_and_loses_at_most_its_fade() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    speech = np.random.default_rng(1).uniform(-1, 1, 1000).astype(np.float32)
    queue.enqueue("a", speech)
    queue.finish("a")
    before = render_all(queue, 5)
    queue.pause("a")
    silence = render_all(queue, 5)
    assert silence[:FADE].any()
    assert not silence[FADE:].any()
    assert queue.progress("a") == (400 + FADE, 600 - FADE)
    queue.resume("a")
    after = render_all(queue, 8)
    np.testing.assert_array_equal(before[FADE:], speech[FADE:400])
    np.testing.assert_array_equal(after[FADE : 560 - FADE], speech[400 + 2 * FADE : 1000 - FADE])
    assert kinds(queue)[-1] == ("drained", "a")


def test_a_paused_utterance_can_be_flushed() -> None:
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    queue.enqueue("a", dc(1000))
    render_all(queue, 5)
    queue.pause("a")
    render_all(queue, 2)
    assert queue.flush("a") == 400 + FADE
    assert not render_all(queue, 2).any()
    assert kinds(queue)[-1] == ("flushed", "a")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.sampled_from("abc"), st.integers(0, 400)),
        st.tuples(st.just("finish"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("flush"), st.sampled_from("abc"), st.integers(5, 20)),
        st.tuples(
            st.sampled_from(["hold", "release", "pause", "resume"]),
            st.sampled_from("abc"),
            st.just(0),
        ),
        st.tuples(st.just("gain"), st.just(""), st.integers(0, 10)),
        st.tuples(st.just("render"), st.just(""), st.integers(1, 200)),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_no_sequence_of_calls_clicks_or_loses_count(actions: list[tuple[str, str, int]]) -> None:
    """Each fade lasts at least 5 ms (40 samples) and each gain ramp too, so with audio that is
    constant at full scale the output never moves by more than 2/40 from one sample to the next."""
    queue = PlaybackQueue(RATE_HZ, FADE_MS)
    accepted = dict.fromkeys("abc", 0)  # of the utterance's present life
    promised: dict[str, int] = {}
    output = [np.zeros(1, np.float32)]

    def check_events() -> None:
        for event in queue.take_events():
            if event.kind is PlaybackEventKind.FLUSHED:
                assert event.played_samples <= accepted[event.utterance_id]
                assert event.played_samples == promised.pop(event.utterance_id)
            elif event.kind is PlaybackEventKind.DRAINED:
                assert event.played_samples == accepted[event.utterance_id]
                accepted[event.utterance_id] = 0

    def render(frames: int) -> None:
        block = queue.render(frames)
        output.append(np.zeros(frames, np.float32) if block is None else block)
        check_events()

    for kind, name, value in actions:
        if kind == "enqueue" and queue.enqueue(name, dc(value, 1.0)):
            accepted[name] += value
        elif kind == "finish":
            queue.finish(name)
        elif kind == "flush":
            count = queue.flush(name, fade_ms=value)
            assert promised.setdefault(name, count) == count
            check_events()
            if queue.is_idle:
                promised.pop(name, None)
        elif kind in ("hold", "release", "pause", "resume"):
            getattr(queue, kind)(name)
        elif kind == "gain":
            queue.ramp_gain(value / 10, ramp_ms=5)
        elif kind == "render":
            render(value)
    for name in "abc":
        queue.finish(name)
        queue.resume(name)
        queue.release(name)
    while not queue.is_idle:
        render(BLOCK)
    render(BLOCK)
    played = np.concatenate(output)
    assert np.abs(np.diff(played)).max() <= 2 / FADE + 1e-4
    assert played[-1] == 0
    assert queue.queued_samples == 0


@pytest.mark.parametrize("samples", range(200, 2_000, 37))
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_a_starving_utterance_that_was_paused_can_be_flushed(samples: int, blocks: int) -> None:
    queue = PlaybackQueue(48_000, 5.0)
    queue.enqueue("a", np.full(samples, 0.5, np.float32))
    for _ in range(blocks):
        queue.render(480)
    queue.pause("a")
    queue.render(480)
    assert queue.flush("a") <= samples
    queue.render(480)
    assert queue.progress("a") == (queue.flush("a"), 0)

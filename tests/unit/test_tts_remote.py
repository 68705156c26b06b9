"""The loudspeaker that is somewhere else: by its clock, at once, and only while it is needed."""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Iterator

import numpy as np
import pytest

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, RATE_HZ
from appliance.audio.player import PlaybackEventKind
from appliance.tts.output import PlaybackReport, PlayedBlock
from appliance.tts.remote import RemoteLoudspeaker

T0 = 5_000_000_000_000
LEAD_BLOCKS = 2


class ByHand(RemoteLoudspeaker):
    """The test is the clock."""

    def _run(self) -> None: ...


@pytest.fixture
def far() -> Iterator[ByHand]:
    it = ByHand("remote.1")
    yield it
    it.close()


def tone(ms: int) -> np.ndarray:
    n = RATE_HZ * ms // 1000
    return (0.4 * np.sin(2 * np.pi * 300 * np.arange(n) / RATE_HZ)).astype(np.float32)


def say(far: RemoteLoudspeaker, name: str, ms: int) -> None:
    far.enqueue(name, tone(ms), RATE_HZ)
    far.finish(name)


def run(far: ByHand, from_ns: int, ms: int) -> tuple[list[PlayedBlock], list[PlaybackReport]]:
    """Let time pass as the thread would; stops when it would sleep."""
    played, reports = [], []
    now_ns = from_ns
    while now_ns < from_ns + ms * 1_000_000:
        due_ns = far.advance(now_ns)
        played += far.played()
        reports += far.reports()
        if due_ns is None:
            break
        assert due_ns > now_ns, "it would run round and round"
        now_ns = due_ns
    return played, reports


def test_what_is_ready_is_given_at_once_a_packet_ahead_and_then_in_time(far: ByHand) -> None:
    say(far, "a", 200)
    assert far.advance(T0) == T0 + BLOCK_NS
    first = far.played()
    assert [block.dac_ns - T0 for block in first] == [0, BLOCK_NS, 2 * BLOCK_NS]
    assert np.abs(first[0].samples).max() > 0.1
    assert far.advance(T0 + BLOCK_NS) == T0 + 2 * BLOCK_NS
    (next_block,) = far.played()
    assert next_block.dac_ns == T0 + 3 * BLOCK_NS
    assert next_block.first_frame == 3 * BLOCK_SAMPLES


def test_all_of_it_is_given_and_told_and_then_it_rests(far: ByHand) -> None:
    say(far, "a", 200)
    played, reports = run(far, T0, 5_000)
    samples = np.concatenate([block.samples for block in played])
    np.testing.assert_array_equal(samples[100 : 3_200 - 100], tone(200)[100:-100])
    assert len(played) == 20 + 10, "and a little silence, so that the last packet is complete"
    assert [r.kind for r in reports] == [PlaybackEventKind.STARTED, PlaybackEventKind.DRAINED]
    assert reports[1].dac_ns == T0 + 200_000_000
    assert far.advance(T0 + 9_000_000_000) is None
    assert far.played() == []


def test_a_new_stretch_begins_anew_in_position_and_time(far: ByHand) -> None:
    say(far, "a", 50)
    run(far, T0, 5_000)
    say(far, "b", 50)
    later_ns = T0 + 60_000_000_000
    played, reports = run(far, later_ns, 5_000)
    assert played[0].first_frame == 0
    assert played[0].dac_ns == later_ns
    assert reports[0].utterance_id == "b"
    assert 0 <= reports[0].dac_ns - later_ns < BLOCK_NS


def test_what_is_held_or_paused_lets_it_rest(far: ByHand) -> None:
    far.hold("a")
    say(far, "a", 500)
    assert far.advance(T0) is None
    assert far.played() == []
    far.release("a")
    played, _ = run(far, T0 + BLOCK_NS, 100)
    far.pause("a")
    after, _ = run(far, T0 + 12 * BLOCK_NS, 5_000)
    assert len(after) < 15, "it rests"
    far.resume("a")
    rest, reports = run(far, T0 + 900 * BLOCK_NS, 5_000)
    assert reports[-1].kind is PlaybackEventKind.DRAINED
    sounding = sum(np.count_nonzero(block.samples) for block in played + after + rest)
    assert sounding == pytest.approx(8_000, abs=300)


def test_a_flush_of_what_was_never_heard_is_told_at_once(far: ByHand) -> None:
    far.hold("a")
    say(far, "a", 100)
    far.flush("a")
    played, reports = run(far, T0, 1_000)
    assert [r.kind for r in reports] == [PlaybackEventKind.FLUSHED]
    assert played == []


def test_a_clock_that_was_held_up_does_not_catch_up(far: ByHand) -> None:
    say(far, "a", 500)
    far.advance(T0)
    assert len(far.played()) == 3
    late_ns = T0 + 1_000_000_000
    far.advance(late_ns)
    late = far.played()
    assert len(late) == 3
    assert late[0].dac_ns == late_ns
    assert late[0].first_frame == 0, "the stream began anew"


def test_short_delays_are_made_up_for(far: ByHand) -> None:
    say(far, "a", 500)
    far.advance(T0)
    far.advance(T0 + 5 * BLOCK_NS)
    assert [b.first_frame for b in far.played()] == [160 * n for n in range(8)]


def test_its_own_clock_keeps_time_and_then_sleeps() -> None:
    far = RemoteLoudspeaker("remote.2")
    try:
        begun_ns = time.monotonic_ns()
        say(far, "a", 300)
        played: list[PlayedBlock] = []
        given_ns: list[int] = []
        ended = False
        while not ended:
            assert select.select([far.fileno()], [], [], 2.0)[0], "it stands still"
            ended = any(r.kind is PlaybackEventKind.DRAINED for r in far.reports())
            blocks = far.played()
            played += blocks
            given_ns += [time.monotonic_ns()] * len(blocks)
        assert played[0].dac_ns - begun_ns < 100_000_000
        # a stall of the whole machine makes it begin anew, later
        assert min(b.dac_ns - a.dac_ns for a, b in itertools.pairwise(played)) == BLOCK_NS
        early_ns = [block.dac_ns - at for block, at in zip(played, given_ns, strict=True)]
        assert max(early_ns) <= LEAD_BLOCKS * BLOCK_NS
        while select.select([far.fileno()], [], [], 0.15)[0]:
            far.reports()
            played += far.played()
        assert len(played) == 30 + 10
        assert not far._wanted.is_set()
    finally:
        far.close()
        assert not far._thread.is_alive()

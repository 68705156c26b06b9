"""The far-end of each microphone block: without a seam, at the right time, across interruptions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_SAMPLES
from appliance.capture.far_end import LEAD_MS, FarEndTimeline
from appliance.ipc.audio_ring import Block

MS = 1_000_000
T0 = 9_000_000_000_000
LEAD = LEAD_MS * 16


@dataclass
class World:
    """A loudspeaker and a microphone, each with a clock; the far-end counts its own samples."""

    timeline: FarEndTimeline = field(default_factory=FarEndTimeline)
    far_opened_ns: int = T0
    mic_opened_ns: int = T0 + 1_234_567
    mic_ppm: float = 0.0
    far_ppm: float = 0.0
    epoch: int = 5
    ahead_ns: int = 30 * MS
    jitter_ns: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def noise(self) -> int:
        return int(self.rng.integers(-self.jitter_ns, self.jitter_ns + 1))

    def far_block(self, number: int) -> Block:
        position = number * BLOCK_SAMPLES
        at_ns = self.far_opened_ns + round(position * 62_500 * (1 - self.far_ppm * 1e-6))
        samples = np.arange(position + 1, position + 1 + BLOCK_SAMPLES, dtype=np.float32)
        return Block(self.epoch, number, at_ns + self.noise(), 0, samples, position)

    def time_of_far(self, position: float) -> float:
        return self.far_opened_ns + position * 62_500 * (1 - self.far_ppm * 1e-6)

    def run(
        self, first: int, last: int, played: range, skip: range = range(0)
    ) -> list[tuple[int, np.ndarray | None]]:
        """Microphone blocks `first` to `last`; (time, far-end) of each.

        Far-end blocks in `played` are handed over `ahead_ns` before they are heard.
        """
        todo = list(played)
        heard = []
        for number in range(first, last):
            position = number * BLOCK_SAMPLES
            at_ns = self.mic_opened_ns + round(position * 62_500 * (1 - self.mic_ppm * 1e-6))
            done_ns = at_ns + 10 * MS
            while todo and self.far_block(todo[0]).captured_ns - self.ahead_ns <= done_ns:
                self.timeline.push(self.far_block(todo.pop(0)))
            if number not in skip:
                heard.append((at_ns, self.timeline.take(position, at_ns + self.noise())))
        return heard


def errors_ms(world: World, heard: list[tuple[int, np.ndarray | None]]) -> np.ndarray:
    """By how much the samples given were played before those of the microphone, per block."""
    found = []
    for at_ns, far in heard:
        if far is not None and far[0] > 0:
            found.append((at_ns - world.time_of_far(float(far[0]) - 1)) / MS)
    return np.array(found)


def steps(heard: list[tuple[int, np.ndarray | None]]) -> np.ndarray:
    """Differences of neighbouring samples while something is played: all 1 without a seam."""
    stream = np.concatenate([far for _, far in heard if far is not None])
    inside = np.flatnonzero(stream)
    return np.diff(stream[inside[0] : inside[-1] + 1])


def test_nothing_played_gives_nothing() -> None:
    world = World()
    assert all(far is None for _, far in world.run(0, 50, range(0)))
    assert world.timeline.anchors == 0


def test_the_far_end_of_the_same_moment_but_for_the_lead() -> None:
    world = World()
    heard = world.run(0, 300, range(100, 200))
    np.testing.assert_allclose(errors_ms(world, heard), -LEAD_MS, atol=0.07)
    assert set(steps(heard)) == {1}
    assert heard[50][1] is None
    assert heard[-1][1] is None
    assert world.timeline.anchors == 1
    assert world.timeline.late_blocks == 0


@settings(max_examples=15, deadline=None)
@given(
    mic_ms=st.integers(-1_500, 1_500),
    jitter_us=st.integers(0, 4_000),
    ppm=st.floats(-200, 200),
    seed=st.integers(0, 100),
)
def test_there_is_no_seam_whatever_the_clocks_do(
    mic_ms: int, jitter_us: int, ppm: float, seed: int
) -> None:
    world = World(
        mic_opened_ns=T0 + mic_ms * MS,
        jitter_ns=jitter_us * 1000,
        mic_ppm=ppm,
        rng=np.random.default_rng(seed),
    )
    heard = world.run(400, 1_200, range(700, 900))
    assert world.timeline.anchors == 1
    assert set(steps(heard)) == {1}
    assert np.abs(errors_ms(world, heard) + LEAD_MS).max() < 0.2 + jitter_us / 1000 + 1.0


def test_after_a_pause_the_far_end_is_where_it_was_to_the_sample() -> None:
    world = World(jitter_ns=2 * MS, mic_ppm=80)
    before = world.run(0, 300, range(100, 200))
    after = world.run(300, 900, range(600, 700))
    offsets = {
        float(far[0]) - 1 - (at_ns - world.mic_opened_ns) / 62_500 / (1 - 80e-6)
        for at_ns, far in (*before, *after)
        if far is not None and far[0] > 0
    }
    assert max(offsets) - min(offsets) < 0.01
    assert world.timeline.anchors == 1


def test_clocks_that_have_drifted_apart_in_a_long_silence_are_brought_together() -> None:
    world = World(mic_ppm=150)
    world.run(0, 300, range(100, 200))
    later = 90_000  # 15 minutes, 135 ms of drift
    heard = world.run(later, later + 300, range(later + 50, later + 200))
    assert world.timeline.anchors == 2
    assert np.abs(errors_ms(world, heard) + LEAD_MS).max() < 0.5


def test_dropped_microphone_blocks_shift_nothing() -> None:
    world = World()
    heard = world.run(0, 400, range(100, 300), skip=range(150, 170))
    np.testing.assert_allclose(errors_ms(world, heard), -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 1


@pytest.mark.parametrize("flagged", [True, False])
def test_a_microphone_that_was_opened_anew(flagged: bool) -> None:
    world = World()
    world.run(0, 200, range(100, 200))
    world.mic_opened_ns += 700 * MS
    if flagged:
        world.timeline.restart_microphone()
    heard = world.run(200, 500, range(280, 500))
    np.testing.assert_allclose(errors_ms(world, heard), -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 2


@pytest.mark.parametrize("again_at", [0, 1_000])
def test_a_loudspeaker_that_was_opened_anew_is_recognised(again_at: int) -> None:
    world = World()
    world.run(0, 300, range(100, 300))
    world.far_opened_ns += 4_000 * MS  # its positions begin again
    first = 400 + again_at
    heard = world.run(first, first + 300, range(first - 395, first - 100))
    np.testing.assert_allclose(errors_ms(world, heard), -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 2


def test_a_restarted_tts_is_another_stream() -> None:
    world = World()
    world.run(0, 300, range(100, 300))
    world.epoch, world.far_opened_ns = 6, T0 + 10 * MS
    heard = world.run(300, 600, range(320, 500))
    np.testing.assert_allclose(errors_ms(world, heard), -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 2


def test_a_late_reference_is_counted_and_then_given_as_late_as_it_comes() -> None:
    world = World(ahead_ns=-35 * MS)
    heard = world.run(0, 300, range(100, 200))
    found = errors_ms(world, heard)
    assert len(found) > 80
    assert 30 < found[-1] < 60
    assert world.timeline.late_blocks == 10
    assert world.timeline.anchors == 2


def test_a_reference_that_is_always_far_too_late_is_silence() -> None:
    world = World(ahead_ns=-200 * MS)
    heard = world.run(0, 300, range(100, 200))
    assert all(far is None for _, far in heard)
    assert world.timeline.late_blocks > 50


def test_samples_that_the_loudspeaker_lost_unseen_are_noticed_by_the_times() -> None:
    world = World()
    world.run(0, 200, range(100, 200))
    world.far_opened_ns += 30 * MS
    heard = world.run(200, 400, range(200, 400))
    np.testing.assert_allclose(errors_ms(world, heard)[20:], -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 2

"""The far-end of each microphone block: without a seam, at the right time, across interruptions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ
from appliance.capture.alignment import ReferenceAligner
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
    drift_ppm: float = 0.0
    """What is known of the drift."""
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
                stamp_ns = at_ns + self.noise()
                heard.append((at_ns, self.timeline.take(position, stamp_ns, self.drift_ppm)))
        return heard


def errors_ms(world: World, heard: list[tuple[int, np.ndarray | None]]) -> np.ndarray:
    """By how much the samples given were played before those of the microphone, per block."""
    found = []
    for at_ns, far in heard:
        if far is not None and len(far) and far[0] > 0:
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


def test_what_sounds_before_it_has_its_place_is_known_to_sound() -> None:
    world = World()
    assert not world.timeline.sounds_unplaced
    world.run(0, 5, range(20))
    assert world.timeline.sounds_unplaced
    world.run(5, 20, range(20, 40))
    assert world.timeline.anchors == 1
    assert not world.timeline.sounds_unplaced


def test_what_was_played_before_it_had_its_place_is_told() -> None:
    world = World()
    heard = world.run(0, 200, range(100))
    stream = np.concatenate([far for _, far in heard if far is not None])
    first = int(stream[np.flatnonzero(stream)[0]])
    sounded = world.timeline.before[world.timeline.before > 0]
    assert len(world.timeline.before) == RATE_HZ // 2
    assert len(sounded) > 5 * BLOCK_SAMPLES
    assert sounded[-1] == first - 1
    assert set(np.diff(sounded)) == {1}


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
    assert np.abs(errors_ms(world, heard) + LEAD_MS).max() < 2 * jitter_us / 1000 + 1.2


def counts(heard: list[tuple[int, np.ndarray | None]]) -> np.ndarray:
    """Samples given per block."""
    return np.array([BLOCK_SAMPLES if far is None else len(far) for _, far in heard])


@pytest.mark.parametrize("drift_ppm", [0.0, 150.0, 140.0])
def test_the_far_end_follows_the_clocks_without_a_seam(drift_ppm: float) -> None:
    world = World(mic_ppm=-100, far_ppm=50, jitter_ns=MS // 2, drift_ppm=drift_ppm)
    heard = world.run(0, 12_000, range(100, 12_000))  # two minutes, 18 ms of drift
    assert world.timeline.anchors == 1
    assert set(steps(heard)) == {1}
    assert np.abs(errors_ms(world, heard) + LEAD_MS).max() < 2.0
    given = counts(heard)
    assert np.abs(given - BLOCK_SAMPLES).max() <= (1 if drift_ppm == 150 else 40)
    assert given.sum() == pytest.approx(12_000 * BLOCK_SAMPLES * (1 + 150e-6), abs=40)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ppm", [150.0, -150.0])
def test_clocks_that_have_drifted_apart_in_a_long_silence(ppm: float, known: bool) -> None:
    world = World(far_ppm=ppm, drift_ppm=ppm if known else 0.0)
    before = world.run(0, 300, range(100, 200))
    silence = world.run(300, 90_000, range(0))  # 15 minutes, 135 ms of drift
    after = world.run(90_000, 90_400, range(90_060, 90_260))
    assert world.timeline.anchors == 1
    found = errors_ms(world, after)
    assert len(found) > 195 - (0 if known else 15)
    assert np.abs(found + LEAD_MS)[-180:].max() < 1.1
    if known:
        assert np.abs(found + LEAD_MS).max() < 1.1
    # whoever counts both streams finds them as far apart as the devices are
    total = counts([*before, *silence, *after]).sum()
    assert total == pytest.approx(90_400 * BLOCK_SAMPLES * (1 + ppm * 1e-6), abs=20)


def test_a_count_that_is_off_by_more_than_any_drift_is_given_up() -> None:
    world = World()
    world.run(0, 300, range(100, 200))
    later = 103_500  # 17 minutes, 507 ms of drift
    world.far_ppm = 490
    heard = world.run(later, later + 500, range(later + 150, later + 350))
    assert world.timeline.anchors == 2
    assert np.abs(errors_ms(world, heard)[-100:] + LEAD_MS).max() < 1.1
    assert counts(heard).max() < 2 * BLOCK_SAMPLES


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
    assert world.timeline.anchors == 1
    assert world.timeline.lead_ms == pytest.approx(-found[-1], abs=1.1)


def test_a_reference_that_is_always_far_too_late_is_silence() -> None:
    world = World(ahead_ns=-200 * MS)
    heard = world.run(0, 300, range(100, 200))
    assert not any(far.any() for _, far in heard if far is not None)
    assert world.timeline.late_blocks > 50


def test_samples_that_the_loudspeaker_lost_unseen_are_noticed_by_the_times() -> None:
    world = World()
    world.run(0, 200, range(100, 200))
    world.far_opened_ns += 30 * MS
    heard = world.run(200, 400, range(200, 400))
    np.testing.assert_allclose(errors_ms(world, heard)[20:], -LEAD_MS, atol=0.07)
    assert world.timeline.anchors == 2


class Evening:
    """Half an hour in which a loudspeaker plays now and then, and a microphone hears its echo."""

    PLAYED_S = ((2, 12), (40, 50), (400, 408), (410, 418), (1_000, 1_010), (1_790, 1_799))
    ECHO_S = 0.003

    def __init__(self, drift_ppm: float) -> None:
        self.rng = np.random.default_rng(3)
        self.rate = 1 + drift_ppm * 1e-6
        self.timeline, self.aligner = FarEndTimeline(), ReferenceAligner()
        self.sound = soxr.resample(self.noise(12 * RATE_HZ), 1, 8)
        self.given = 0
        self.ahead: list[float] = []
        """By how many samples the reference comes before the echo, while something is played."""

    def noise(self, samples: int) -> np.ndarray:
        syllables = self.rng.uniform(0, 0.2, samples // 2000 + 1)
        loudness = np.interp(np.arange(samples) / 2000, np.arange(len(syllables)), syllables)
        return (loudness * self.rng.standard_normal(samples)).astype(np.float32)

    def heard_at(self, position: int) -> float:
        """Which far-end sample's echo the microphone hears at one of its own."""
        return (position / RATE_HZ - self.ECHO_S) * self.rate * RATE_HZ

    def microphone(self, position: int, start: int, end: int) -> np.ndarray:
        if not start - BLOCK_SAMPLES < self.heard_at(position) < end:
            sound = np.zeros(BLOCK_SAMPLES)
        else:
            at = (self.heard_at(position) - start + np.arange(BLOCK_SAMPLES) * self.rate) * 8
            whole = np.clip(np.floor(at).astype(int), 0, (end - start) * 8 - 2)
            between = np.clip(at - whole, 0, 1)
            sound = self.sound[whole] * (1 - between) + self.sound[whole + 1] * between
        return (0.5 * sound + 1e-4 * self.rng.standard_normal(BLOCK_SAMPLES)).astype(np.float32)

    def stamp_ns(self, seconds: float) -> int:
        return T0 + round(1e9 * (seconds + self.rng.uniform(-1e-3, 1e-3)))

    def run(self, seconds: int) -> None:
        silence = np.zeros(BLOCK_SAMPLES, np.float32)
        plays = [
            tuple(round(s * RATE_HZ) // BLOCK_SAMPLES * BLOCK_SAMPLES for s in play)
            for play in self.PLAYED_S
        ]
        pushed = 0
        for position in range(0, seconds * RATE_HZ, BLOCK_SAMPLES):
            start, end = next((p for p in plays if self.heard_at(position) < p[1]), plays[-1])
            pushed = max(pushed, start)
            while pushed < min(end, self.heard_at(position) + 800):
                samples = self.sound[(pushed - start) * 8 :: 8][:BLOCK_SAMPLES]
                at_ns = self.stamp_ns(pushed / RATE_HZ / self.rate)
                self.timeline.push(Block(1, pushed, at_ns, 0, samples, pushed))
                pushed += BLOCK_SAMPLES
            mic = self.microphone(position, start, end)
            far = self.timeline.take(
                position, self.stamp_ns(position / RATE_HZ), self.aligner.drift_ppm
            )
            far = silence if far is None else far
            self.given += len(far)
            self.aligner.process(far, mic)
            if start + RATE_HZ < self.heard_at(position) < end:
                # the next sample of far-end and of reference, both as positions of the loudspeaker
                newest = self.timeline._given
                reference = newest - self.aligner.applied_ms * RATE_HZ / 1000
                self.ahead.append(reference - self.heard_at(position + BLOCK_SAMPLES))


@pytest.mark.parametrize(("drift_ppm", "seconds"), [(100.0, 1_800), (-100.0, 420)])
def test_half_an_hour_of_drift_and_pauses_is_not_noticed(drift_ppm: float, seconds: int) -> None:
    evening = Evening(drift_ppm)
    evening.run(seconds)
    assert evening.timeline.anchors == 1
    assert evening.aligner.locked
    assert evening.aligner.relocks == 0
    assert evening.aligner.drift_ppm == pytest.approx(drift_ppm, abs=1)
    assert min(evening.ahead) > 8
    assert np.ptp(evening.ahead[-500:]) < 1.0
    assert evening.given == pytest.approx(seconds * RATE_HZ * evening.rate, abs=40)

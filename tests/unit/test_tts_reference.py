"""The far-end reference: at hand-over, sample by sample, under the right name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyaudio
import pytest

from appliance.audio.clock import SampleClock
from appliance.audio.player import PlaybackQueue
from appliance.ipc.audio_ring import SPEAKER_RING, Block, RingReader, RingWriter
from appliance.tts.playback import Loudspeaker, PlayedBlock
from appliance.tts.reference import FarEnd, stream_id

RATE_HZ = 16_000
T0 = 7_000_000_000
DELAY_S = 0.03
EPOCH_S = time.monotonic()


class Ring:
    """A speaker ring with the writing and the reading end."""

    def __init__(self, prefix: str) -> None:
        self.writer = RingWriter(prefix, SPEAKER_RING)
        self.far_end = FarEnd(self.writer)
        self._reader = RingReader(prefix, SPEAKER_RING.name)

    def take(self, played: list[PlayedBlock], rate_hz: int = RATE_HZ) -> list[Block]:
        message = self.far_end.take(played, rate_hz)
        if message is None:
            return []
        self._reader.announced(message, rewind_blocks=1_000)
        return self._reader.read()

    def close(self) -> None:
        self._reader.close()
        self.writer.close()


@pytest.fixture
def ring(place) -> Iterator[Ring]:
    it = Ring(place.shm_prefix)
    yield it
    it.close()


def played(
    count: int, first_frame: int = 0, rate_hz: int = RATE_HZ, at_ns: int = T0
) -> list[PlayedBlock]:
    """Blocks of 10 ms of a tone that began with the stream."""
    n = rate_hz // 100

    def tone(first: int) -> np.ndarray:
        phase = 2 * np.pi * 200 * np.arange(first, first + n) / rate_hz
        return np.sin(phase).astype(np.float32)

    return [
        PlayedBlock(
            first_frame + k * n,
            at_ns + k * 10_000_000,
            tone(first_frame + k * n),
        )
        for k in range(count)
    ]


@pytest.fixture
def loudspeaker() -> Iterator[Loudspeaker]:
    """One without a device: the test is the sound card."""
    it = Loudspeaker(rate_hz=RATE_HZ)
    it._queue = PlaybackQueue(RATE_HZ)
    it._clock = SampleClock(RATE_HZ, 0.02, 0.02, 20_000_000, 8)
    yield it
    it.close()


def card(
    loudspeaker: Loudspeaker, blocks: int, status: int = 0, delay_s: float = DELAY_S
) -> np.ndarray:
    """Let the device ask for blocks, each 10 ms after the one before."""
    data = []
    for _ in range(blocks):
        frame_s = loudspeaker._queue.frame / RATE_HZ
        # the callback reads the real clock, which stands still in this test
        times = {
            "current_time": time.monotonic(),
            "output_buffer_dac_time": EPOCH_S + frame_s + delay_s,
        }
        data.append(loudspeaker._on_block(None, 160, times, status))
    return np.frombuffer(b"".join(data), np.float32)


def test_a_block_is_written_at_hand_over_with_its_time_ahead(ring: Ring) -> None:
    blocks = ring.take(played(3))
    assert [b.position for b in blocks] == [0, 160, 320]
    assert [b.captured_ns for b in blocks] == [T0, T0 + 10_000_000, T0 + 20_000_000]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_silence_left_out_is_counted_to_the_sample(ring: Ring, rate_hz: int) -> None:
    frames = rate_hz // 100
    blocks = ring.take(played(100, 0, rate_hz), rate_hz)
    later = ring.take(played(100, 1_000 * frames, rate_hz, T0 + 10_000_000_000), rate_hz)
    for stretch, start_ns, first in ((blocks, T0, 0), (later, T0 + 10_000_000_000, 160_000)):
        assert stretch[0].position == first
        positions = np.array([b.position for b in stretch])
        np.testing.assert_array_equal(np.diff(positions), 160)
        times_ns = np.array([b.captured_ns for b in stretch])
        expected_ns = start_ns + (positions - first) * 62_500
        assert np.abs(times_ns - expected_ns).max() < 31_250, "half a sample"
        middle = stretch[len(stretch) // 2]
        expected = np.sin(2 * np.pi * 200 * (np.arange(160) + middle.position) / RATE_HZ)
        assert np.abs(middle.samples - expected).max() < 0.16, "two samples"


def test_blocks_carry_the_name_of_what_is_heard_in_them(ring: Ring) -> None:
    blocks = played(6)
    blocks[1] = PlayedBlock(160, blocks[1].dac_ns, blocks[1].samples, ((200, "a"),))
    blocks[4] = PlayedBlock(640, blocks[4].dac_ns, blocks[4].samples, ((640, "b"), (700, "c")))
    a, c = stream_id("a"), stream_id("c")
    assert [b.stream_id for b in ring.take(blocks)] == [0, a, a, a, c, c]


def test_a_name_that_the_resampler_holds_back_is_not_lost(ring: Ring) -> None:
    first = played(1, 0, 48_000)
    first[0] = PlayedBlock(0, T0, first[0].samples, ((470, "a"),))
    assert ring.take(first, 48_000) == []
    anew = ring.take(played(5, 0, 48_000), 48_000)  # the device ran dry in between
    assert {b.stream_id for b in anew} == {stream_id("a")}


def test_what_is_handed_over_is_what_is_played(loudspeaker: Loudspeaker) -> None:
    speech = np.random.default_rng(1).uniform(-0.5, 0.5, 1_600).astype(np.float32)
    card(loudspeaker, 5)
    assert loudspeaker.played() == []
    loudspeaker.enqueue("a", speech, RATE_HZ)
    loudspeaker.finish("a")
    loudspeaker.ramp_gain(-6.0, 1.0)
    heard = card(loudspeaker, 12)
    blocks = loudspeaker.played()
    assert blocks[0].first_frame == 5 * 160
    assert [name for block in blocks for _, name in block.started] == ["a"]
    np.testing.assert_array_equal(np.concatenate([b.samples for b in blocks]), heard)


def test_flush_leaves_in_the_reference_what_the_device_holds(loudspeaker: Loudspeaker) -> None:
    loudspeaker.enqueue("a", np.full(16_000, 0.5, np.float32), RATE_HZ)
    before = card(loudspeaker, 3)
    loudspeaker.flush("a")
    after = card(loudspeaker, 3)
    reference = np.concatenate([b.samples for b in loudspeaker.played()])
    np.testing.assert_array_equal(reference, np.concatenate([before, after]))
    assert before[-1] == 0.5
    assert not after[160:].any()


def test_the_position_begins_anew_when_the_device_ran_dry(loudspeaker: Loudspeaker) -> None:
    loudspeaker.enqueue("a", np.full(16_000, 0.5, np.float32), RATE_HZ)
    card(loudspeaker, 3)
    card(loudspeaker, 1, pyaudio.paOutputUnderflow)
    card(loudspeaker, 2)
    frames = [block.first_frame for block in loudspeaker.played()]
    assert frames == [0, 160, 320, 0, 160, 320]


def test_the_position_begins_anew_when_playback_has_stood_still_unnoticed(
    loudspeaker: Loudspeaker,
) -> None:
    loudspeaker.enqueue("a", np.full(32_000, 0.5, np.float32), RATE_HZ)
    card(loudspeaker, 50)
    card(loudspeaker, 20, delay_s=DELAY_S + 0.04)
    blocks = loudspeaker.played()
    (again,) = [n for n in range(1, len(blocks)) if blocks[n].first_frame == 0]
    assert 50 < again <= 58
    assert blocks[-1].dac_ns - blocks[0].dac_ns == pytest.approx(69 * 10e6 + 40e6, abs=5e6)

"""Rings within one process: geometry, proofs, losses, lives."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import ApplianceError
from appliance.ipc import segment
from appliance.ipc.audio_ring import MIC_RING, RingFormat, RingReader, RingWriter, last_block
from appliance.messages import BlocksReady, Span

FORMAT = RingFormat(name="mic", slots=8, block_samples=4, rate_hz=16_000)


def samples(number: int, fmt: RingFormat = FORMAT) -> np.ndarray:
    return np.full(fmt.shape, number, np.float32)


def die(writer: RingWriter) -> None:
    """What a kill -9 does: the segment stays, its lock is freed."""
    writer._buffer.release()
    writer._memory.close()
    writer._held.release()


@pytest.fixture
def writer(place):
    it = RingWriter(place.shm_prefix, FORMAT)
    yield it
    it.close()


@pytest.fixture
def reader(place):
    it = RingReader(place.shm_prefix, "mic")
    yield it
    it.close()


def test_the_mic_ring_holds_a_minute_in_whole_cache_lines():
    assert MIC_RING.slots * MIC_RING.block_samples == 60 * MIC_RING.rate_hz
    assert MIC_RING.slot_bytes % 64 == 0
    assert MIC_RING.slot_bytes >= MIC_RING.payload_bytes + 48


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_blocks_come_back_as_they_were(place, channels):
    fmt = RingFormat(name="mic", slots=8, block_samples=160, rate_hz=16_000, channels=channels)
    writer, reader = RingWriter(place.shm_prefix, fmt), RingReader(place.shm_prefix, "mic")
    block = np.random.default_rng(1).standard_normal(fmt.shape).astype(np.float32)
    assert reader.announced(
        writer.write(block, -5, stream_id=2**64 - 1, position=2**63 + 1, near_end=0.25)
    )
    (read,) = reader.read()
    np.testing.assert_array_equal(read.samples, block)
    assert (read.epoch, read.sequence, read.captured_ns) == (writer.epoch, 0, -5)
    assert (read.stream_id, read.position, read.near_end) == (2**64 - 1, 2**63 + 1, 0.25)
    assert reader.format == fmt
    reader.close()
    writer.close()


def test_a_block_is_a_copy_that_outlives_writer_and_reader(place):
    writer, reader = RingWriter(place.shm_prefix, FORMAT), RingReader(place.shm_prefix, "mic")
    reader.announced(writer.write(samples(7), 0))
    (block,) = reader.read()
    for number in range(FORMAT.slots):
        writer.write(samples(100 + number), 0)
    reader.close()
    writer.close()
    np.testing.assert_array_equal(block.samples, samples(7))


def test_a_block_of_another_size_is_refused(writer):
    with pytest.raises(ValueError, match="16 bytes, not 20"):
        writer.write(np.zeros(5, np.float32), 0)
    assert writer.sequence == -1


def test_only_what_was_announced_is_read(writer, reader):
    first = writer.write(samples(0), 0)
    writer.write(samples(1), 0)
    reader.announced(first)
    assert [b.sequence for b in reader.read()] == [0]
    assert reader.read() == []


def test_announcements_are_cumulative_and_may_come_twice_or_late(writer, reader):
    messages = [writer.write(samples(n), n) for n in range(6)]
    reader.announced(messages[0])
    reader.announced(messages[5])
    reader.announced(messages[2])
    reader.announced(messages[5])
    assert [b.sequence for b in reader.read()] == [0, 1, 2, 3, 4, 5]
    assert reader.lost_blocks == 0


@pytest.mark.parametrize(("rewind", "first"), [(0, 5), (1, 4), (5, 0), (1_000, 0)])
def test_a_new_reader_starts_as_far_back_as_it_asks(writer, reader, rewind, first):
    for number in range(6):
        message = writer.write(samples(number), 0)
    reader.announced(message, rewind_blocks=rewind)
    assert [b.sequence for b in reader.read()] == list(range(first, 6))
    assert reader.lost_blocks == 0


def test_a_new_reader_never_counts_as_lost_what_was_before_it(writer, reader):
    for number in range(30):
        message = writer.write(samples(number), 0)
    reader.announced(message, rewind_blocks=1_000)
    assert [b.sequence for b in reader.read()] == list(range(22, 30))
    assert reader.lost_blocks == 0


def test_a_lapped_reader_knows_exactly_how_many_it_lost(writer, reader):
    reader.announced(writer.write(samples(0), 0))
    reader.read()
    for number in range(1, 31):
        message = writer.write(samples(number), 0)
    reader.announced(message)
    assert [b.sequence for b in reader.read()] == list(range(23, 31))
    assert reader.lost_blocks == 22


def test_what_waited_for_a_reader_is_told_for_a_while(writer, reader):
    def read(blocks):
        for number in range(blocks):
            message = writer.write(samples(number), 0)
        reader.announced(message, rewind_blocks=blocks)
        reader.read()

    assert reader.most_unread_blocks == 0
    read(5)
    read(1)
    assert reader.most_unread_blocks == 5
    for _ in range(2 * RingReader._WINDOW_READS):
        read(2)
    assert reader.most_unread_blocks == 2


@pytest.mark.parametrize("byte", [0, 8, 16, 24, 32, 40, 48, 63])
def test_a_slot_with_one_wrong_bit_is_lost_never_heard(writer, reader, byte):
    reader.announced(writer.write(samples(0), 0))
    reader.announced(writer.write(samples(1), 0))
    writer._buffer[64 + FORMAT.slot_bytes + byte] ^= 1
    assert [b.sequence for b in reader.read()] == [0]
    assert reader.lost_blocks == 1


def test_read_span_gives_what_an_event_named_without_any_announcement(writer, reader):
    for number in range(6):
        writer.write(samples(number), 0)
    audio, lost = reader.read_span([Span(writer.epoch, 1, 2), Span(writer.epoch, 5, 5)])
    np.testing.assert_array_equal(audio, np.repeat([1, 2, 5], 4))
    assert lost == 0


def test_read_span_keeps_the_rest_in_its_place_when_some_is_lost(writer, reader):
    for number in range(11):  # 0, 1 and 2 are overwritten
        writer.write(samples(number), 0)
    audio, lost = reader.read_span([Span(writer.epoch, 2, 4)])
    np.testing.assert_array_equal(audio, np.repeat([0, 3, 4], 4))
    assert (lost, reader.lost_blocks) == (1, 1)


@pytest.mark.parametrize(
    ("first", "last", "lost"), [(0, 2**60, 2**60), (5, 4, 0), (9, 3, 0), (-3, -1, 3)]
)
def test_read_span_survives_senseless_spans(writer, reader, first, last, lost):
    writer.write(samples(1), 0)
    audio, counted = reader.read_span([Span(writer.epoch, first, last)])
    assert len(audio) <= FORMAT.slots * FORMAT.block_samples
    assert not audio.any()
    assert counted in (lost, lost + 1)  # block 0 may be inside


def test_read_span_of_an_unknown_life_is_lost(reader):
    assert reader.read_span([Span(12345, 0, 9)])[1] == 10


def test_read_span_across_two_lives(place, reader):
    first = RingWriter(place.shm_prefix, FORMAT)
    for number in range(3):
        first.write(samples(number), 0)
    assert reader.attach(first.epoch)
    die(first)
    second = RingWriter(place.shm_prefix, FORMAT)
    for number in range(3):
        second.write(samples(10 + number), 0)
    audio, lost = reader.read_span([Span(first.epoch, 1, 2), Span(second.epoch, 0, 1)])
    np.testing.assert_array_equal(audio, np.repeat([1, 2, 10, 11], 4))
    assert lost == 0
    second.close()


def test_the_end_of_a_dead_life_is_read_even_where_it_was_not_announced(place, reader):
    first = RingWriter(place.shm_prefix, FORMAT)
    reader.announced(first.write(samples(0), 0))
    reader.announced(first.write(samples(1), 0))
    first.write(samples(2), 0)  # killed before it could say so
    die(first)
    second = RingWriter(place.shm_prefix, FORMAT)
    second.write(samples(10), 0)
    assert reader.announced(second.write(samples(11), 0))
    assert [b.samples[0] for b in reader.read()] == [0, 1, 2, 10, 11]
    assert reader.lost_blocks == 0
    second.close()


def test_a_life_that_came_and_went_unseen_is_counted(place, reader):
    lives = [RingWriter(place.shm_prefix, FORMAT)]
    reader.announced(lives[0].write(samples(0), 0))
    die(lives[0])
    unseen = RingWriter(place.shm_prefix, FORMAT)
    said = [unseen.write(samples(n), 0) for n in range(3)]
    die(unseen)
    last = RingWriter(place.shm_prefix, FORMAT)
    for message in said:
        assert not reader.announced(message)
    reader.announced(last.write(samples(9), 0))
    assert [b.samples[0] for b in reader.read()] == [0, 9]
    assert reader.lost_blocks == 3
    last.close()


def test_a_reader_keeps_two_lives_mapped_and_no_more(place, reader):
    for number in range(5):
        writer = RingWriter(place.shm_prefix, FORMAT)
        reader.announced(writer.write(samples(number), 0))
        die(writer)
    assert len(reader._lives) == 2
    assert [b.samples[0] for b in reader.read()] == [0, 1, 2, 3, 4]
    segment.remove_dead_segments(place.shm_prefix, "mic")


def test_late_words_of_an_old_life_change_nothing(place, reader):
    old = RingWriter(place.shm_prefix, FORMAT)
    late = old.write(samples(0), 0)
    die(old)
    new = RingWriter(place.shm_prefix, FORMAT)
    reader.announced(new.write(samples(1), 0))
    assert not reader.announced(late)
    assert [b.epoch for b in reader.read()] == [new.epoch]
    new.close()


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"VARING03" + bytes(56), b"\xff" * 4096])
def test_a_segment_that_is_no_ring_is_never_read(place, reader, content):
    path = segment.SHM_DIR / segment.segment_name(place.shm_prefix, "mic", 5)
    path.write_bytes(content)
    assert not reader.announced(BlocksReady(ring="mic", epoch=5, sequence=0))
    assert reader.read() == []
    assert last_block(place.shm_prefix, "mic") is None
    path.unlink()


def test_last_block_is_the_newest_whole_one(place):
    writer = RingWriter(place.shm_prefix, FORMAT)
    for number in range(20):
        writer.write(samples(number), captured_ns=1000 + number)
    torn = 64 + (19 % FORMAT.slots) * FORMAT.slot_bytes + 52
    writer._buffer[torn] ^= 1
    die(writer)
    newest = last_block(place.shm_prefix, "mic")
    assert newest is not None
    assert (newest.sequence, newest.captured_ns) == (18, 1018)
    segment.remove_dead_segments(place.shm_prefix, "mic")
    assert last_block(place.shm_prefix, "mic") is None


def test_segments_of_the_dead_are_removed_and_of_other_rings_left(place, writer):
    dead = segment.segment_name(place.shm_prefix, "speaker", 1)
    other = segment.segment_name(place.shm_prefix, "speaker.mic", 1)
    for name in (dead, other):
        (segment.SHM_DIR / name).write_bytes(b"stale")
    fmt = RingFormat(name="speaker", slots=4, block_samples=4, rate_hz=16_000)
    speaker = RingWriter(place.shm_prefix, fmt)
    assert dead not in place.segments()
    assert other in place.segments()
    assert segment.segment_name(place.shm_prefix, "mic", writer.epoch) in place.segments()
    speaker.close()
    segment.unlink_segment(other)


def test_the_segment_of_a_living_writer_is_never_removed(place, writer, monkeypatch):
    monkeypatch.setattr(segment, "_DEATH_TAKES_AT_MOST_NS", 20_000_000)
    before = place.segments()
    with pytest.raises(ApplianceError, match="being written by another live process"):
        RingWriter(place.shm_prefix, FORMAT)
    assert place.segments() == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_no_room_is_one_clear_error_and_leaves_nothing(place, monkeypatch, code):
    def full(descriptor, offset, size):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ApplianceError, match=r"/dev/shm is too small: .* MB are needed"):
        RingWriter(place.shm_prefix, FORMAT)
    assert place.segments() == []


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(1, 20)),
            st.tuples(st.just("announce"), st.just(0)),
            st.tuples(st.just("read"), st.just(0)),
            st.tuples(st.just("restart"), st.just(0)),
            st.tuples(st.just("tear"), st.integers(0, FORMAT.slots - 1)),
        ),
        max_size=40,
    )
)
def test_reader_against_a_list(steps):
    """Everything written from the first announcement on is received, in order, or counted."""
    prefix = f"va-test-{os.getpid()}-model-"
    writer, reader = RingWriter(prefix, FORMAT), RingReader(prefix, "mic")
    written: list[int] = []  # what the reader may expect, once it has joined
    got: list[int] = []
    number = 0
    joined = announced_life = False
    try:
        for action, argument in [*steps, ("write", 1), ("announce", 0), ("read", 0)]:
            if action == "write":
                for _ in range(argument):
                    message = writer.write(samples(number), number, position=7 * number)
                    written.append(number)
                    number += 1
            elif action == "announce" and writer.sequence >= 0:
                reader.announced(message)
                announced_life = True
                if not joined:
                    joined = True
                    written = written[-1:]
            elif action == "read":
                blocks = reader.read()
                assert all(b.position == 7 * b.captured_ns == 7 * b.samples[0] for b in blocks)
                got += [int(block.samples[0]) for block in blocks]
            elif action == "tear":
                writer._buffer[64 + argument * FORMAT.slot_bytes + 58] ^= 1
            elif action == "restart":
                if not joined or not announced_life:  # nobody will ever know of this life
                    written = written[: len(written) - writer.sequence - 1]
                # what was torn at the very end leaves no trace for anyone
                newest = last_block(prefix, "mic")
                if joined and announced_life:
                    whole = newest.sequence if newest else -1
                    known = max(whole, reader._current.newest)
                    written = written[: len(written) - (writer.sequence - known)]
                die(writer)
                writer = RingWriter(prefix, FORMAT)
                announced_life = False
        assert got == sorted(set(got))
        assert set(got) <= set(written)
        assert len(got) + reader.lost_blocks == len(written)
    finally:
        reader.close()
        writer.close()

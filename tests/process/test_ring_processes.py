"""Rings between real processes, with real kills."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import pytest
from panel_world import await_that

from appliance.ipc import segment
from appliance.ipc.audio_ring import RingFormat, RingReader, RingWriter, last_block
from appliance.ipc.bus import Bus
from appliance.ipc.segment import FileLock
from appliance.messages import BlocksReady, ring_topic

READERS = ("vad", "asr", "llm", "tts")
FORMAT = RingFormat(name="mic", slots=64, block_samples=160, rate_hz=16_000)
spawn = get_context("spawn")


def content(sequence: int) -> np.ndarray:
    """What block ``sequence`` must hold: another content in every slot on every lap."""
    return np.arange(160, dtype=np.float32) * (1 + sequence % 1021) + sequence % 8191


BURST_BLOCKS, REST_S = 16, 0.0005


def write_for_ever(place, instance: int, pace_s: float, connection: Connection) -> None:
    """A capture process: waits for the writer lock, then writes until it is killed."""
    bus = Bus(runtime_dir=place.runtime_dir, process="capture", instance=instance)
    lock = FileLock(place.runtime_dir / "mic.writer.lock")
    connection.send("waiting")
    lock.acquire(wait=True)
    ring = RingWriter(place.shm_prefix, FORMAT)
    connection.send(ring.epoch)
    while True:
        for _ in range(1 if pace_s else BURST_BLOCKS):
            sequence = ring.sequence + 1
            bus.publish(ring.write(content(sequence), time.monotonic_ns()))
        # without any rest in between, readers would be lapped before they saw a single block
        time.sleep(pace_s or REST_S)


def read_for_ever(place, name: str, connection: Connection) -> None:
    """Reports the first block of each life, and all when asked to stop."""
    bus = Bus(runtime_dir=place.runtime_dir, process=name, topics=[ring_topic("mic")])
    ring = RingReader(place.shm_prefix, "mic")
    received: dict[int, list[int]] = {}
    corrupt = 0
    while not connection.poll():
        message = bus.receive(100)
        if not isinstance(message, BlocksReady):
            continue
        ring.announced(message)
        for block in ring.read():
            if block.epoch not in received:
                received[block.epoch] = []
                connection.send((block.epoch, time.monotonic_ns()))
            received[block.epoch].append(block.sequence)
            corrupt += not np.array_equal(block.samples, content(block.sequence))
    connection.send((received, ring.lost_blocks, corrupt))
    ring.close()
    bus.close()


class Crew:
    def __init__(self, place):
        self.place = place
        self.processes = []

    def start(self, target, *arguments):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(self.place, *arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        self.processes.append(process)
        return process, ours


@pytest.fixture
def crew(place):
    it = Crew(place)
    yield it
    for process in it.processes:
        process.kill()
        process.join()
    # what killed writers leave is removed as the next writer would do it
    segment.remove_dead_segments(place.shm_prefix, "mic")
    place.forget_sockets()


def expect(connection, timeout_s=30.0):
    assert connection.poll(timeout_s), "no answer in time"
    return connection.recv()


def finish(connection):
    connection.send("stop")
    while isinstance((answer := expect(connection))[0], int):
        pass
    return answer


@pytest.mark.parametrize("pace_s", [0.01, 0.0], ids=["paced", "in the middle of writing"])
def test_killed_writer_has_a_successor_that_all_readers_follow_within_a_second(crew, pace_s):
    first, first_said = crew.start(write_for_ever, 0, pace_s)
    assert expect(first_said) == "waiting"
    first_epoch = expect(first_said)
    standby, standby_said = crew.start(write_for_ever, 1, 0.01)
    assert expect(standby_said) == "waiting"
    readers = [crew.start(read_for_ever, name)[1] for name in READERS]
    for connection in readers:
        assert expect(connection)[0] == first_epoch
    left_by_first = segment.segment_name(crew.place.shm_prefix, "mic", first_epoch)
    assert crew.place.segments() == [left_by_first]

    killed_ns = time.monotonic_ns()
    first.kill()
    second_epoch = expect(standby_said)
    for connection in readers:
        epoch, at_ns = expect(connection)
        assert epoch == second_epoch > first_epoch
        assert (at_ns - killed_ns) / 1e9 < 1.0

    assert standby.is_alive()
    assert left_by_first not in crew.place.segments()
    for connection in readers:
        received, lost, corrupt = finish(connection)
        assert corrupt == 0
        old, new = received[first_epoch], received[second_epoch]
        assert new[0] == 0, "the new life is read from its first block on"
        assert old == sorted(set(old)) and new == sorted(set(new))
        missing = (old[-1] - old[0] + 1 - len(old)) + (new[-1] + 1 - len(new))
        assert lost >= missing, "every missing block is counted"
        if pace_s:
            assert (missing, lost) == (0, 0)


def test_a_killed_and_a_stopped_reader_affect_nobody(crew):
    _, said = crew.start(write_for_ever, 0, 0.002)
    expect(said), expect(said)
    victim, victim_said = crew.start(read_for_ever, "vad")
    frozen, frozen_said = crew.start(read_for_ever, "asr")
    _, other = crew.start(read_for_ever, "tts")
    for connection in (victim_said, frozen_said, other):
        expect(connection)
    os.kill(frozen.pid, signal.SIGSTOP)
    victim.kill()
    victim.join()
    written = last_block(crew.place.shm_prefix, "mic").sequence
    two_laps = written + 2 * FORMAT.slots
    await_that(lambda: last_block(crew.place.shm_prefix, "mic").sequence > two_laps)
    os.kill(frozen.pid, signal.SIGCONT)
    received, lost, corrupt = finish(other)
    (sequences,) = received.values()
    assert (lost, corrupt) == (0, 0)
    assert sequences == list(range(sequences[0], sequences[-1] + 1))
    received, lost, corrupt = finish(frozen_said)
    (sequences,) = received.values()
    assert corrupt == 0
    assert lost == sequences[-1] - sequences[0] + 1 - len(sequences)


def hammer(place, connection: Connection) -> None:
    """Writes one slot again and again, as fast as it can."""
    fmt = RingFormat(name="mic", slots=1, block_samples=160, rate_hz=16_000)
    ring = RingWriter(place.shm_prefix, fmt)
    patterns = [content(number) for number in range(8_191 * 3)]
    connection.send(ring.write(patterns[0], 0))
    while True:
        sequence = ring.sequence + 1
        ring.write(patterns[sequence % len(patterns)], sequence)


def test_a_slot_overwritten_while_it_is_read_is_never_heard(crew):
    patterns = [content(number) for number in range(8_191 * 3)]
    _, said = crew.start(hammer)
    ring = RingReader(crew.place.shm_prefix, "mic")
    ring.announced(expect(said))
    life = ring._current
    heard = torn = 0
    deadline = time.monotonic() + 20
    while (heard < 300 or torn < 300) and time.monotonic() < deadline:
        slot = bytes(life.buffer[64 : 64 + 40])
        guess = int.from_bytes(slot[8:16], "little")  # whatever is being written just now
        block = life.block(guess)
        if block is None:
            torn += 1
            continue
        heard += 1
        assert block.captured_ns == block.sequence
        np.testing.assert_array_equal(block.samples, patterns[block.sequence % len(patterns)])
    ring.close()
    assert torn, "the test never saw a slot in the making"
    assert heard


SMALL_SHM = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"], check=True)
from pathlib import Path
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingWriter
try:
    RingWriter("va-small-", MIC_RING)
except ApplianceError as error:
    print(error)
    print(sorted(p.name for p in Path("/dev/shm").iterdir()))
"""


def may_mount() -> bool:
    return (
        os.getuid() == 0
        and not subprocess.run(
            ["unshare", "--mount", "true"], check=False, capture_output=True
        ).returncode
    )


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a small /dev/shm")
def test_a_small_dev_shm_is_one_clear_error_and_nothing_is_left():
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", SMALL_SHM],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    message, left = done.stdout.splitlines()
    assert message.startswith("/dev/shm is too small: 4.2 MB are needed, 1.0 MB are free.")
    assert "remount,size=" in message
    assert left == "[]"
    assert done.stderr == ""


def test_a_successor_knows_until_when_its_killed_predecessor_wrote(crew):
    writer, said = crew.start(write_for_ever, 0, 0.005)
    expect(said), expect(said)
    _, reader = crew.start(read_for_ever, "vad")
    expect(reader)
    writer.kill()
    writer.join()
    dead_ns = time.monotonic_ns()
    block = last_block(crew.place.shm_prefix, "mic")
    received, _, _ = finish(reader)
    (sequences,) = received.values()
    assert block.sequence >= sequences[-1]
    assert 0 < dead_ns - block.captured_ns < 1_000_000_000


def test_a_ring_takes_all_its_memory_when_it_is_made(crew):
    ring = RingWriter(
        crew.place.shm_prefix,
        RingFormat(name="mic", slots=6_000, block_samples=160, rate_hz=16_000),
    )
    (name,) = crew.place.segments()
    taken = 512 * (segment.SHM_DIR / name).stat().st_blocks
    assert taken >= ring.format.segment_bytes
    ring.close()
    assert crew.place.segments() == []

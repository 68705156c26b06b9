"""``appliance bench ring``: latency, processor time and correctness of the audio rings.

Paced: one writer process sends a 10 ms block every 10 ms to four reader processes. Latency runs
from just before the block is written and announced until the reader holds its verified copy.
Processor time is ``getrusage(RUSAGE_SELF)`` of a reader process, all its threads (ZeroMQ's
included), from its first measured block to its last, divided by the blocks; nothing subtracted.
What the reader spends before the writer exists (heartbeats, connection attempts) is beside it.

Loaded: a busy process of normal priority on every core, each in a session of its own as all the
others. ``ring_loaded`` is what the product gets without any privilege, ``_plain`` without asking
the scheduler for short turns, ``_raised`` with the priority that it takes where allowed.

Unpaced: the writer writes a short ring as fast as it can and announces every 16th block; the
readers, far behind, compare every sample of what they get with what must be there.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from appliance.bench.report import machine, percentiles, print_json, report
from appliance.bench.transports import RING_TOPIC, TRANSPORTS, Place, Sample
from appliance.errors import ApplianceError
from appliance.ipc import segment
from appliance.ipc.audio_ring import MIC_RING, RingFormat, RingReader, RingWriter
from appliance.ipc.bus import Bus
from appliance.ipc.process import die_with_parent
from appliance.ipc.scheduling import run_promptly, use_short_slice
from appliance.messages import BlocksReady

READERS = ("vad", "asr", "llm", "tts")
BLOCK_NS = 10_000_000
_IDLE_S = 2.0
_START_S = 60.0
_WARM_UP, _MEASURED, _END = 0, 1, 2
_PATTERNS = 1_021  # a prime: another content in a slot on every lap
_SHORT_RING = RingFormat(name=MIC_RING.name, slots=128, block_samples=160, rate_hz=16_000)
_ANNOUNCE_EVERY = 16
_FIFO_PRIORITY = 10
_spawn = get_context("spawn")


@dataclass(frozen=True)
class _Paced:
    """What one reader measured."""

    latencies_ms: list[float]
    cpu_us_per_block: float
    idle_cpu_us_per_s: float


@dataclass(frozen=True)
class _Unpaced:
    """What one reader saw of the unpaced blocks."""

    received: int
    lost: int
    corrupt: int


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _use_fifo() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))


def _as_it_is() -> None:
    pass


@dataclass(frozen=True)
class _Condition:
    """One paced run."""

    label: str
    transport: str
    loaded: bool = False
    """A busy process of normal priority on every core beside it."""
    schedule: Callable[[], object] = use_short_slice
    """What writer and readers ask of the scheduler; the default needs no privilege."""


def fifo_allowed() -> bool:
    """Whether this process may use real-time scheduling."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        _use_fifo()
    except PermissionError:
        return False
    os.sched_setscheduler(0, *before)
    return True


def _blocks(seed: int) -> Sample:
    return np.random.default_rng(seed).standard_normal((_PATTERNS, 160)).astype(np.float32)


def _join_crew() -> None:
    """A session of its own, as the supervisor does it; the processor is shared between sessions."""
    os.setsid()
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    die_with_parent(parent.pid)


def _spin() -> None:
    _join_crew()
    while True:
        pass


def _paced_reader(condition: _Condition, place: Place, name: str, connection: Connection) -> None:
    _join_crew()
    condition.schedule()
    receive = TRANSPORTS[condition.transport].reader(place, name)
    connection.send("ready")
    idle_from = time.monotonic(), _cpu_s()
    while not (first := receive()):
        pass
    idle = (_cpu_s() - idle_from[1]) / (time.monotonic() - idle_from[0])
    connection.send("joined")
    latencies_ms: list[float] = []
    started_s = None
    blocks = first
    while True:
        now_ns = time.monotonic_ns()
        for mark, sent_ns, _ in blocks:
            if mark == _MEASURED:
                if started_s is None:
                    started_s = _cpu_s()
                else:
                    latencies_ms.append((now_ns - sent_ns) / 1e6)
            elif mark == _END and started_s is not None:
                cpu_us = (_cpu_s() - started_s) * 1e6 / max(1, len(latencies_ms))
                connection.send(_Paced(latencies_ms, cpu_us, idle * 1e6))
                return
        blocks = receive()


def _paced_writer(
    condition: _Condition, place: Place, count: int, seed: int, connection: Connection
) -> None:
    _join_crew()
    condition.schedule()
    send, close = TRANSPORTS[condition.transport].writer(place)
    patterns = _blocks(seed)
    due_ns = time.monotonic_ns()
    left = -1  # not told to measure yet
    sent = 0
    try:
        while True:
            due_ns += BLOCK_NS
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            if left < 0 and connection.poll():
                connection.recv()
                left = count
            mark = _WARM_UP if left < 0 else _MEASURED if left else _END
            send(mark, patterns[sent % _PATTERNS])
            sent += 1
            left -= left > 0
            if mark == _END and connection.poll():
                return
    finally:
        close()


def _unpaced_reader(place: Place, name: str, seed: int, count: int, connection: Connection) -> None:
    _join_crew()
    bus = Bus(runtime_dir=place.runtime_dir, process=name, topics=[RING_TOPIC])
    ring = RingReader(place.shm_prefix, place.ring.name)
    expected = [block.tobytes() for block in _blocks(seed)]
    received = corrupt = 0
    joined = False
    connection.send("ready")
    while received + ring.lost_blocks < count:
        message = bus.receive()
        if not isinstance(message, BlocksReady):
            continue
        ring.announced(message)
        for block in ring.read():
            received += 1
            corrupt += block.samples.tobytes() != expected[block.sequence % _PATTERNS]
        if not joined:
            joined = True
            connection.send("joined")
    connection.send(_Unpaced(received, ring.lost_blocks, corrupt))
    bus.close()


def _unpaced_writer(place: Place, count: int, seed: int, connection: Connection) -> None:
    _join_crew()
    bus = Bus(runtime_dir=place.runtime_dir, process="capture")
    ring = RingWriter(place.shm_prefix, place.ring)
    patterns = _blocks(seed)
    try:
        message = ring.write(patterns[0], 0)
        while not connection.poll(0.01):  # until all have read the first block
            bus.publish(message)
        connection.recv()
        started = time.monotonic()
        for sequence in range(1, count):
            message = ring.write(patterns[sequence % _PATTERNS], sequence)
            if sequence % _ANNOUNCE_EVERY == 0:
                bus.publish(message)
        connection.send(time.monotonic() - started)
        while not connection.poll(0.01):
            bus.publish(message)
    finally:
        ring.close()
        bus.close()


@contextmanager
def _place(ring: RingFormat, *, queues: bool) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="va-bench-"))
    prefix = f"{folder.name}-"
    try:
        yield Place(folder, prefix, ring, {n: _spawn.Queue() for n in READERS} if queues else {})
    finally:
        for name in segment.list_segments(prefix):
            segment.unlink_segment(name)
        shutil.rmtree(folder)


class _Crew:
    """The processes of one run; none outlives it."""

    def __init__(self) -> None:
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def start(self, target: Any, *arguments: Any) -> Connection:  # noqa: ANN401
        """Start a role; it gets its end of the returned connection as its last argument."""
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=target, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes.append(process)
        return ours

    def load(self, count: int) -> None:
        """Keep this many cores busy at normal priority."""
        for _ in range(count):
            process = _spawn.Process(target=_spin, daemon=True)
            process.start()
            self._processes.append(process)


def _expect(connection: Connection, timeout_s: float) -> Any:  # noqa: ANN401
    if not connection.poll(timeout_s):
        raise ApplianceError(
            "A process of the benchmark did not answer in time; is the machine up?"
        )
    try:
        return connection.recv()
    except EOFError:
        raise ApplianceError("A process of the benchmark died; see its lines above.") from None


def _run_paced(condition: _Condition, blocks: int, seed: int) -> dict[str, _Paced]:
    queues = condition.transport == "mp_queue"
    with _place(MIC_RING, queues=queues) as place, _Crew() as crew:
        readers = {n: crew.start(_paced_reader, condition, place, n) for n in READERS}
        for connection in readers.values():
            _expect(connection, _START_S)
        time.sleep(_IDLE_S)
        writer = crew.start(_paced_writer, condition, place, blocks, seed)
        for connection in readers.values():
            _expect(connection, _START_S)
        if condition.loaded:
            crew.load(os.cpu_count() or 1)
            time.sleep(1.0)
        writer.send("measure")
        seconds = 3 * blocks * BLOCK_NS / 1e9 + _START_S
        results = {name: _expect(connection, seconds) for name, connection in readers.items()}
        writer.send("stop")
        return results


def _paced_figures(condition: str, results: dict[str, _Paced]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, result in results.items():
        figures |= percentiles(f"{condition}_{name}", result.latencies_ms, "ms")
    for percentile in ("p50", "p99", "max"):  # of the worst reader
        figures[f"{condition}_{percentile}_ms"] = max(
            figures[f"{condition}_{name}_{percentile}_ms"] for name in results
        )
    cpu = [result.cpu_us_per_block for result in results.values()]
    figures[f"{condition}_cpu_us_per_block_and_reader"] = round(float(np.mean(cpu)), 1)
    idle = [result.idle_cpu_us_per_s for result in results.values()]
    figures[f"{condition}_no_blocks_cpu_us_per_s"] = round(float(np.mean(idle)), 1)
    return figures


def _unpaced_figures(blocks: int, seed: int) -> dict[str, float]:
    with _place(_SHORT_RING, queues=False) as place, _Crew() as crew:
        readers = [crew.start(_unpaced_reader, place, n, seed, blocks) for n in READERS]
        for connection in readers:
            _expect(connection, _START_S)
        writer = crew.start(_unpaced_writer, place, blocks, seed)
        for connection in readers:
            _expect(connection, _START_S)
        writer.send("go")
        seconds = _expect(writer, 1e-3 * blocks + _START_S)
        results: list[_Unpaced] = [_expect(connection, _START_S) for connection in readers]
        writer.send("stop")
    return {
        "unpaced_written_blocks": blocks,
        "unpaced_received_blocks_all_readers": sum(r.received for r in results),
        "unpaced_reported_lost_blocks_all_readers": sum(r.lost for r in results),
        "unpaced_corrupt_blocks": sum(r.corrupt for r in results),
        "unpaced_unreported_lost_blocks": sum(abs(blocks - r.received - r.lost) for r in results),
        "unpaced_blocks_per_s": round(blocks / seconds),
    }


def _conditions(*, loaded: bool, baselines: bool) -> list[_Condition]:
    conditions = [_Condition("ring_idle", "ring")]
    if baselines:
        conditions += [_Condition(f"{name}_idle", name) for name in TRANSPORTS if name != "ring"]
    loads = {"ring_loaded_plain": _as_it_is, "ring_loaded": use_short_slice}
    if fifo_allowed():
        conditions.append(_Condition("ring_fifo_idle", "ring", schedule=_use_fifo))
        loads |= {"ring_loaded_raised": run_promptly, "ring_fifo_loaded": _use_fifo}
    if loaded:
        conditions += [
            _Condition(label, "ring", loaded=True, schedule=schedule)
            for label, schedule in loads.items()
        ]
    return conditions


def run(
    blocks: int = 10_000_000,
    *,
    paced_blocks: int = 2_000,
    seed: int = 1,
    loaded: bool = True,
    baselines: bool = True,
) -> dict[str, Any]:
    """Measure everything in one run.

    Args:
        blocks: written as fast as possible; 0 leaves this part out.
        paced_blocks: blocks of each paced condition, 100 a second.
        seed: of the samples.
        loaded: also with a busy process on every core.
        baselines: also the transports to compare with.

    Returns:
        The report. Figures of a condition without a reader's name are those of the worst reader;
        raised and real-time figures are left out where the system does not allow them.

    Raises:
        ApplianceError: a process of the benchmark failed.
    """
    before = machine()
    figures: dict[str, float] = {}
    for condition in _conditions(loaded=loaded, baselines=baselines):
        figures |= _paced_figures(condition.label, _run_paced(condition, paced_blocks, seed))
    if blocks:
        figures |= _unpaced_figures(blocks, seed)
    options = f"--blocks {blocks} --paced-blocks {paced_blocks} --seed {seed} --json"
    return report(figures, command=f"appliance bench ring {options}", seed=seed, before=before)


def main() -> None:
    """``python -m appliance.bench.ring --json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10_000_000)
    parser.add_argument("--paced-blocks", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the only format; accepted for habit")
    arguments = parser.parse_args()
    print_json(run(arguments.blocks, paced_blocks=arguments.paced_blocks, seed=arguments.seed))


if __name__ == "__main__":
    main()

"""What playback costs: a block of the loudspeaker, and how soon a remote session is spoken to."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from appliance.audio.blocks import BLOCK_MS, BLOCK_NS, RATE_HZ
from appliance.audio.player import PlaybackEventKind, PlaybackQueue
from appliance.bench.report import machine, report
from appliance.ipc.audio_ring import RingWriter, speaker_format
from appliance.processes import REMOTE_SESSIONS
from appliance.tts.output import Output
from appliance.tts.reference import FarEnd
from appliance.tts.remote import RemoteLoudspeaker

_DEVICE_RATE_HZ = 48_000
_PREFIX = "va-bench-playback-"
_SESSION = REMOTE_SESSIONS[0]


class _ByHand(Output):
    """A loudspeaker without a device: the bench asks for its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = PlaybackQueue(_DEVICE_RATE_HZ)

    def block(self) -> None:
        """Take a block, as the device's callback does."""
        now_ns = time.monotonic_ns()
        self._next_block(_DEVICE_RATE_HZ * BLOCK_MS // 1000, now_ns, lambda _frame: now_ns, now_ns)


def run(*, blocks: int, starts: int, seed: int) -> dict[str, Any]:
    """Measure; see the module."""
    before = machine()
    figures: dict[str, float] = {}
    for name, speaks, rings in (
        ("silence", False, False),
        ("speech", True, False),
        ("chime", False, True),
        ("speech_and_chime", True, True),
    ):
        output = _ByHand()
        if speaks:
            _enqueue(output, blocks, _DEVICE_RATE_HZ, seed)
        if rings:
            output.ring(-18.0)
        figures |= _percentiles(f"block_{name}", _times_us(output.block, output.played, blocks))
        output.close()
    figures |= _remote(starts, seed)
    command = f"appliance bench playback --blocks {blocks} --starts {starts}"
    return report(figures, command=command, seed=seed, before=before)


def _remote(starts: int, seed: int) -> dict[str, float]:
    """A remote session: what opening it costs, and how soon ready audio is in its ring."""
    opened_ms, first_ms = [], []
    for _ in range(starts):
        begun_ns = time.perf_counter_ns()
        writer = RingWriter(_PREFIX, speaker_format(_SESSION))
        loudspeaker = RemoteLoudspeaker(_SESSION)
        opened_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
        far_end = FarEnd(writer)
        begun_ns = time.perf_counter_ns()
        _enqueue(loudspeaker, 5, RATE_HZ, seed)
        loudspeaker.finish("bench")
        select.select([loudspeaker.fileno()], [], [])
        far_end.take(loudspeaker.played(), RATE_HZ)
        first_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
        while not any(r.kind is PlaybackEventKind.DRAINED for r in loudspeaker.reports()):
            select.select([loudspeaker.fileno()], [], [], BLOCK_NS / 1e9)
        loudspeaker.close()
        writer.close()
    return _percentiles("remote_opened", opened_ms, "ms") | _percentiles(
        "remote_first_block", first_ms, "ms"
    )


def _enqueue(output: Output, blocks: int, rate_hz: int, seed: int) -> None:
    """Noise for so many blocks, in pieces as a voice gives them."""
    rng = np.random.default_rng(seed)
    left = rate_hz * BLOCK_MS // 1000 * (blocks + 1)
    while left > 0:
        piece = min(left, rate_hz // 10)
        output.enqueue("bench", rng.uniform(-0.5, 0.5, piece).astype(np.float32), rate_hz)
        left -= piece


def _times_us(work: Callable[[], None], sweep: Callable[[], object], count: int) -> list[float]:
    times_us = []
    for number in range(count):
        begun_ns = time.perf_counter_ns()
        work()
        times_us.append((time.perf_counter_ns() - begun_ns) / 1e3)
        if number % 100 == 0:
            sweep()
    return times_us


def _percentiles(name: str, values: list[float], unit: str = "us") -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {f"{name}_p50_{unit}": round(float(p50), 2), f"{name}_p99_{unit}": round(float(p99), 2)}

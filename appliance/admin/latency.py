"""How long answers took: figures over the turns that are kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from appliance.conductor.ledger import SPEECH_STAGES
from appliance.conductor.optimiser import THRESHOLDS_MS
from appliance.messages import TurnRecord

_WINDOW_TURNS = 20
TOTAL = "voice_to_voice"
STAGE_GROUPS: dict[str, tuple[str, ...]] = {
    "asr": ("transcription_delay",),
    "llm": ("llm_queue", "llm_ttft", "text_aggregation"),
    "tts": ("tts_queue", "tts_ttfb"),
    "end_to_end": (TOTAL,),
}
"""Which contributions a threshold of the specification is about. The one of vad is about its own
computation, which no record of a turn tells apart from the silence that it waits for."""
BUCKETS_MS = (10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 10000)


def percentile(values: Iterable[float], share: float) -> float | None:
    """Nearest-rank percentile, ``share`` from 0 to 1; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Histogram:
    """Counts by bucket since the start, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, value_ms: float) -> None:
        """Take a value."""
        index = next((i for i, top in enumerate(BUCKETS_MS) if value_ms <= top), len(BUCKETS_MS))
        self.counts[index] += 1
        self.sum_ms += value_ms


def is_measured(record: TurnRecord) -> bool:
    """Whether its latency counts: a spoken question that was answered aloud."""
    return record.source == "speech" and bool(record.audible_ns) and record.voice_to_voice_ms > 0


def _part(record: TurnRecord, stage: str) -> float | None:
    if stage == TOTAL:
        return record.voice_to_voice_ms
    return record.contributions_ms.get(stage)


def parts_of(record: TurnRecord) -> dict[str, float]:
    """What the histograms take of a measured turn: milliseconds by contribution, and the whole."""
    parts = {**record.contributions_ms, TOTAL: record.voice_to_voice_ms}
    return {name: ms for name, ms in parts.items() if name in SPEECH_STAGES or name == TOTAL}


def contributions(measured: Sequence[TurnRecord]) -> dict[str, dict[str, Any]]:
    """p50 and p95 in milliseconds of every contribution."""
    result = {}
    for stage in (*SPEECH_STAGES, TOTAL):
        values = [ms for record in measured if (ms := _part(record, stage)) is not None]
        if values:
            result[stage] = _figures(values)
    return result


def against_thresholds(measured: Sequence[TurnRecord]) -> dict[str, dict[str, Any]]:
    """p50 and p95 of what the thresholds of the specification are about."""
    result: dict[str, dict[str, Any]] = {}
    for group, stages in STAGE_GROUPS.items():
        values = [
            sum(parts)
            for record in measured
            if (parts := [ms for s in stages if (ms := _part(record, s)) is not None])
        ]
        if values:
            result[group] = _figures(values) | {"threshold_ms": THRESHOLDS_MS[group]}
    return result


def trends(measured: Sequence[TurnRecord]) -> dict[str, dict[str, Any]]:
    """Latency over time, oldest first: p50 and p95 of the last turns before each, per stage."""
    result: dict[str, dict[str, Any]] = {}
    for group, stages in STAGE_GROUPS.items():
        values = [sum(_part(record, stage) or 0.0 for stage in stages) for record in measured]
        windows = [values[max(0, i - _WINDOW_TURNS + 1) : i + 1] for i in range(len(values))]
        result[group] = {
            "p50_ms": [percentile(window, 0.5) for window in windows],
            "p95_ms": [percentile(window, 0.95) for window in windows],
            "threshold_ms": THRESHOLDS_MS[group],
        }
    return result


def _figures(values: list[float]) -> dict[str, Any]:
    return {
        "p50_ms": round(percentile(values, 0.5) or 0.0, 1),
        "p95_ms": round(percentile(values, 0.95) or 0.0, 1),
        "turns": len(values),
    }

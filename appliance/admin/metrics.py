"""``/metrics``: the view in Prometheus' text format, by its conventions (base units, _total)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from appliance import __version__
from appliance.admin.broadcast import Broadcaster
from appliance.admin.latency import BUCKETS_MS, TOTAL
from appliance.admin.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("idle", "listening", "thinking", "speaking", "muted", "not_ready")
_PROCESS_STATES = ("starting", "standby", "ready", "degraded", "silent", "down")


class _Figures(Collector):
    """Reads the view when it is asked."""

    def __init__(self, view: View, watchers: Broadcaster, now_ns: int) -> None:
        self._view, self._watchers, self._now_ns = view, watchers, now_ns

    def collect(self) -> Iterator[Metric]:
        """All families."""
        snapshot = self._view.snapshot(self._now_ns)
        yield _gauge(
            "appliance_build_info", "Version of the software.", {(__version__,): 1}, "version"
        )
        yield _gauge(
            "appliance_ready",
            "1 when a spoken question would be answered.",
            {(): snapshot["ready"]},
        )
        states = {(name,): float(snapshot["state"] == name) for name in _STATES}
        yield _gauge("appliance_state", "1 for the state it is in.", states, "state")
        mute = snapshot["mute"]
        kinds = {(kind,): float(mute[kind]) for kind in ("hardware", "software")}
        yield _gauge(
            "appliance_microphone_muted", "1 when muted, by kind of switch.", kinds, "switch"
        )
        level = (snapshot["level"] or {}).get("level", 0)
        yield _gauge(
            "appliance_service_level", "Steps of the optimiser; 0 is as configured.", {(): level}
        )
        yield _gauge(
            "appliance_panel_watchers",
            "Browsers with a live connection.",
            {(): len(self._watchers)},
        )
        yield _counter(
            "appliance_panel_updates_replaced",
            "Live updates that a slow browser did not get because a newer one came.",
            {(): self._watchers.replaced},
        )
        yield from self._processes(snapshot["processes"])
        yield from self._front_end(snapshot["front_end"])
        yield from self._turns()

    def _processes(self, processes: dict[str, dict[str, object]]) -> Iterator[Metric]:
        up, age, restarts, counters = {}, {}, {}, {}
        for label, entry in processes.items():
            for state in _PROCESS_STATES:
                up[label, state] = float(entry["state"] == state)
            if "pid" not in entry:
                continue
            age[label,] = _number(entry["heartbeat_age_ms"]) / 1000
            restarts[label,] = _number(entry["restarts"])
            found = entry["counters"]
            for name, value in (found if isinstance(found, dict) else {}).items():
                counters[label, re.sub(r"[^a-z0-9_]", "_", name.lower())] = _number(value)
        yield _gauge("appliance_process_state", "1 for the state it is in.", up, "process", "state")
        yield _gauge(
            "appliance_process_heartbeat_age_seconds",
            "Since the last sign of life.",
            age,
            "process",
        )
        yield _counter("appliance_process_restarts", "Restarts.", restarts, "process")
        yield _gauge(
            "appliance_process_figure",
            "What the heartbeat counts, losses among it; units are in the names.",
            counters,
            "process",
            "figure",
        )

    def _front_end(self, report: dict[str, object] | None) -> Iterator[Metric]:
        if report is None:
            return
        for name, text, value in (
            ("near_end_level_dbfs", "Level of what is listened to.", report["near_end_dbfs"]),
            ("far_end_level_dbfs", "Level of what is played.", report["far_end_dbfs"]),
            ("echo_return_loss_enhancement_decibels", "Echo taken out.", report["erle_final_db"]),
            ("clipped_ratio", "Microphone samples at full scale.", report["clipped_share"]),
        ):
            if value is not None:
                yield _gauge(f"appliance_front_end_{name}", text, {(): _number(value)})
        yield _counter(
            "appliance_front_end_xruns", "Microphone audio lost.", {(): _number(report["xruns"])}
        )

    def _turns(self) -> Iterator[Metric]:
        outcomes, overlaps, marks, gaps, lost_ms, histograms = self._view.read(
            lambda view: (
                dict(view.outcomes),
                dict(view.overlaps),
                dict(view.marks),
                view.gaps,
                view.lost_audio_ms,
                {name: (list(h.counts), h.sum_ms) for name, h in view.histograms.items()},
            )
        )
        yield _counter("appliance_turns", "Turns that are over.", outcomes, "source", "outcome")
        by_kind = {(kind,): float(count) for kind, count in overlaps.items()}
        yield _counter("appliance_overlaps", "Sounds over an answer, by verdict.", by_kind, "kind")
        by_mark = {(mark,): float(count) for mark, count in marks.items()}
        yield _counter("appliance_turn_marks", "What made turns special.", by_mark, "mark")
        yield _counter(
            "appliance_audio_gaps", "Interruptions of the microphone's audio.", {(): gaps}
        )
        yield _counter(
            "appliance_audio_lost_seconds", "Audio that nobody heard.", {(): lost_ms / 1000}
        )
        voice = HistogramMetricFamily(
            "appliance_voice_to_voice_seconds", "From the last word to the first audible sample."
        )
        parts = HistogramMetricFamily(
            "appliance_turn_contribution_seconds",
            "Consecutive parts of the voice-to-voice latency; they sum to it.",
            labels=["stage"],
        )
        for name, (counts, sum_ms) in histograms.items():
            family, labels = (voice, []) if name == TOTAL else (parts, [name])
            family.add_metric(labels, _buckets(counts), sum_ms / 1000)
        yield voice
        yield parts


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    result, total = [], 0
    for top_ms, count in zip((*BUCKETS_MS, None), counts, strict=True):
        total += count
        result.append(("+Inf" if top_ms is None else str(top_ms / 1000), float(total)))
    return result


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(
    name: str, text: str, values: Mapping[Any, float], *labels: str
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def exposition(view: View, watchers: Broadcaster, now_ns: int) -> bytes:
    """The whole page."""
    registry = CollectorRegistry()
    registry.register(_Figures(view, watchers, now_ns))
    return generate_latest(registry)

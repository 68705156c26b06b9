"""Turns as OpenTelemetry traces, for a collector of the owner's; off unless one is named.

A turn is a span, each contribution to its latency a span inside, end to end. No words.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance import __version__
from appliance.errors import ApplianceError
from appliance.messages import TurnRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_DELAY_MS = 1_000
_QUEUE_SPANS = 512
"""Beyond these the newest are dropped: a collector that is away costs nothing."""
_TIMEOUT_S = 5.0
_LAST_FLUSH_MS = 300
_PREFIX = "appliance."


class Traces:
    """Sends them, from a thread of its own.

    Args:
        endpoint: of the collector, OTLP over HTTP.

    Raises:
        ApplianceError: what sends them is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ApplianceError(
                "admin.otlp_endpoint is set, but OpenTelemetry is not installed; "
                "run: scripts/setup --opentelemetry"
            ) from None
        about = {"service.name": "voice-appliance", "service.version": __version__}
        self._provider: TracerProvider = TracerProvider(resource=Resource(about))
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint, timeout=_TIMEOUT_S),
                max_queue_size=_QUEUE_SPANS,
                max_export_batch_size=_QUEUE_SPANS,
                schedule_delay_millis=_DELAY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("appliance.turns", __version__)

    def send(self, record: TurnRecord) -> None:
        """A turn that is over; never waits."""
        from opentelemetry.trace import set_span_in_context

        wall_ns = time.time_ns() - time.monotonic_ns()
        lasted_ms = sum(record.contributions_ms.values())
        heard_ns = record.audible_ns or time.monotonic_ns()
        start_ns = record.talker_end_ns or record.speech_end_ns
        at_ns = wall_ns + (start_ns or heard_ns - int(lasted_ms * 1e6))
        turn = self._tracer.start_span("turn", start_time=at_ns)
        turn.set_attributes(
            {
                f"{_PREFIX}turn_id": record.turn_id,
                f"{_PREFIX}session_id": record.session_id,
                f"{_PREFIX}source": record.source,
                f"{_PREFIX}outcome": record.outcome,
                f"{_PREFIX}marks": record.marks,
                f"{_PREFIX}voice_to_voice_ms": record.voice_to_voice_ms,
            }
        )
        for overlap in record.overlaps:
            kind = {f"{_PREFIX}kind": overlap.kind}
            turn.add_event("overlap", kind, timestamp=wall_ns + overlap.onset_ns)
        inside = set_span_in_context(turn)
        for stage, ms in record.contributions_ms.items():
            span = self._tracer.start_span(stage, inside, start_time=at_ns)
            at_ns += int(ms * 1e6)
            span.end(at_ns)
        turn.end(at_ns)

    def close(self) -> None:
        """Send what there is, if that is quick."""
        self._provider.force_flush(_LAST_FLUSH_MS)

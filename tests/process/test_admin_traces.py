"""Turns as OpenTelemetry traces: what a collector gets, and that one that is away harms nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from panel_world import SECRET, admin_process, await_that, free_port, record

Received = Queue[bytes]


@pytest.fixture
def collector() -> Iterator[tuple[int, Received]]:
    received: Received = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port, received
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_turn_is_a_span_and_its_parts_follow_each_other_inside(
    place, tmp_path, collector
) -> None:
    port, received = collector
    variables = {"APPLIANCE_ADMIN__OTLP_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces"}
    with admin_process(place.runtime_dir, tmp_path, variables=variables) as running:
        running.publish_until("conductor", record(), lambda: not received.empty())
    request = ExportTraceServiceRequest.FromString(received.get())
    assert SECRET.encode() not in request.SerializeToString()
    spans = request.resource_spans[0].scope_spans[0].spans
    newest = spans[-1].trace_id
    turn = next(span for span in spans if span.trace_id == newest and span.name == "turn")
    parts = [s for s in spans if s.trace_id == newest and s.parent_span_id == turn.span_id]
    assert [part.name for part in parts] == ["end_of_turn_delay", "llm_ttft", "tts_ttfb"]
    edges = [part.start_time_unix_nano for part in parts] + [turn.end_time_unix_nano]
    assert edges[0] == turn.start_time_unix_nano
    assert [part.end_time_unix_nano for part in parts] == edges[1:]
    assert turn.end_time_unix_nano - turn.start_time_unix_nano == 600_000_000
    attributes = {a.key: a.value for a in turn.attributes}
    assert attributes["appliance.outcome"].string_value == "answered"


@pytest.mark.slow
def test_a_collector_that_is_away_stops_nobody(place, tmp_path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}/v1/traces"
    variables = {"APPLIANCE_ADMIN__OTLP_ENDPOINT": endpoint}
    with admin_process(place.runtime_dir, tmp_path, variables=variables) as running:
        running.pair()
        for number in range(400):
            running.buses["conductor"].publish(record(f"s{number}"))
        running.publish_until(
            "conductor", record("last"), lambda: "last" in running.client().get("/api/turns").text
        )
        await_that(lambda: running.client().get("/health/live").status_code == 200)

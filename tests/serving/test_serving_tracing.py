"""Spans reach the collector that the environment names, and hold nothing of what was said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import StartServer, recording
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from scripted_server import BREAKING_SECONDS, SPOKEN

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.bodies: list[bytes] = []

    def spans(self) -> list[Any]:
        sent = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [span for one in sent for resource in one.resource_spans for scope in resource.scope_spans for span in scope.spans]


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("fields", [{}, {"stream": "true"}])
def test_a_request_is_a_child_of_its_callers_span(start_server: StartServer, collector: Collector, fields: dict[str, str]) -> None:
    server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
    answer = server.client.post(
        "/openai/v1/audio/transcriptions",
        files={"file": ("hemlig.flac", recording(1.5))},
        data=fields,
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
    )
    assert answer.status_code == 200
    assert server.terminate() == 0
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"transcribe openai", "decode", "transcribe"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    request = spans["transcribe openai"]
    assert request.parent_span_id.hex() == PARENT
    assert {spans[name].parent_span_id for name in ("decode", "transcribe")} == {request.span_id}
    assert "detach" not in server.log()


def test_spans_hold_neither_words_nor_names(start_server: StartServer, collector: Collector) -> None:
    server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
    for seconds in (1.5, BREAKING_SECONDS):
        server.client.post("/openai/v1/audio/transcriptions?q=hemlig", files={"file": ("hemlig.flac", recording(seconds))})
    server.client.post("/openai/v1/audio/transcriptions", files={"file": ("hemlig.flac", b"hemlig")}, data={"hemlig": "hemlig"})
    assert server.terminate() == 0
    sent = b"".join(collector.bodies)
    assert collector.spans()
    for secret in (SPOKEN, "Kanarie", "hemlig"):
        assert secret.encode() not in sent


def test_where_nobody_asks_nothing_is_sent(start_server: StartServer, collector: Collector) -> None:
    server = start_server()
    assert server.transcribe(recording(1.5)).status_code == 200
    server.terminate()
    assert not collector.bodies

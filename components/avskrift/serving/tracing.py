"""OpenTelemetry traces, if somebody asks for them: a span for each request, and in it those of decoding, waiting and reading.

They are configured as OpenTelemetry has it: by ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``, without which
nothing is recorded. Spans hold seconds, counts and states; never a text, a file's name or a header but ``traceparent``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_DEFAULT_NAME = "avskrift"
_from_headers = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Tracing:
    """Of this process. Not OpenTelemetry's global one: FastAPI records into that what was raised and what was asked for, word by word."""

    tracer: trace.Tracer


_tracing = _Tracing(trace.NoOpTracer())


@contextmanager
def exported() -> Iterator[None]:
    """Send spans to the collector that the environment names, those of the last second too; do nothing where it names none."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        yield
        return
    # Only here: they take half a second to import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = os.environ.get("OTEL_SERVICE_NAME") or _DEFAULT_NAME
    provider = TracerProvider(resource=Resource.create({"service.name": named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracing.tracer = provider.get_tracer("avskrift.serving")
    try:
        yield
    finally:
        provider.shutdown()


@contextmanager
def request(protocol: str, headers: Mapping[str, str]) -> Iterator[trace.Span]:
    """The span of a request, a child of the caller's where ``traceparent`` names it."""
    parent = _from_headers.extract({"traceparent": headers.get("traceparent", "")})
    # What was raised quotes what it failed on, and that may be a transcript.
    with _tracing.tracer.start_as_current_span(
        f"transcribe {protocol}", context=parent, kind=trace.SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


@contextmanager
def phase(name: str, **attributes: float) -> Iterator[None]:
    """A part of the request that is being answered. Not the current span: a streamed answer ends in another task than it began."""
    span = _tracing.tracer.start_span(name, attributes=attributes)
    try:
        yield
    finally:
        span.end()

"""What Prometheus is told at ``/metrics``: counts and seconds, and nothing that a client sent."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter("avskrift_requests", "Requests to transcribe, by protocol and HTTP status.", ("protocol", "status"))
AUDIO_SECONDS = Counter("avskrift_audio_seconds", "Seconds of audio that were transcribed.")
LATENCY = Histogram("avskrift_phase_seconds", "Seconds that a recording spent in each phase.", ("phase",), buckets=_SECONDS)
BATCH_WINDOWS = Histogram("avskrift_batch_windows", "Windows that were read together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
REQUEST_SECONDS = Histogram("avskrift_request_seconds", "Seconds from a request's first byte to its answer's end.", buckets=_SECONDS)
MODEL = Info("avskrift_model", "The model that answers.")
_QUEUED = Gauge("avskrift_queue_audio_seconds", "Seconds of audio that wait or are being transcribed.")
_ARRIVING = Gauge("avskrift_arriving_requests", "Requests that are being received or decoded.")


def watch(*, queued_s: Callable[[], float], arriving: Callable[[], int]) -> None:
    """Ask these whenever somebody looks."""
    _QUEUED.set_function(queued_s)
    _ARRIVING.set_function(lambda: float(arriving()))

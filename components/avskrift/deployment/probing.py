"""Requests of our own through a service's URL: whether the answers are good and quick, and which version they come from."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from avskrift.deployment import client
from avskrift.deployment.smoke import SmokeTest
from avskrift.errors import EndpointError, UsageError

_QUESTION_SECONDS = 5.0
_FEWEST_PROBES = 5
_INFO = re.compile(r'^avskrift_model_info\{[^}]*version="(?P<version>[^"]*)"', re.MULTILINE)
_STARTED = re.compile(r"^process_start_time_seconds (?P<seconds>[\d.e+]+)$", re.MULTILINE)
_REQUESTS = re.compile(r'^avskrift_requests_total\{[^}]*status="(?P<status>\d+)"[^}]*\} (?P<count>\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a new version must keep at each stage of a canary.

    ``stage_s`` is how long it is watched, ``interval_s`` the time between two probes. Of the probes, and of the requests that the
    endpoint's own figures count, ``max_error_rate`` may fail. The 95th percentile of a probe's seconds may be
    ``max_latency_ratio`` times what it was before, and is never called too slow below ``quick_enough_s``.
    """

    stage_s: float = 60.0
    interval_s: float = 1.0
    max_error_rate: float = 0.02
    max_latency_ratio: float = 2.0
    quick_enough_s: float = 0.5

    def __post_init__(self) -> None:
        if not (self.stage_s >= 0 and self.interval_s > 0 and 0 <= self.max_error_rate <= 1 and self.max_latency_ratio >= 1):
            raise UsageError(
                f"a canary cannot be watched {self.stage_s:g} s long every {self.interval_s:g} s, {self.max_error_rate:g} of them failing "
                f"and {self.max_latency_ratio:g} times the latency; use positive times, a share from 0 to 1 and a ratio from 1"
            )


@dataclass(slots=True)
class Probes:
    """What was seen so far. Not for several threads.

    ``served``: requests that the new version's processes counted, other people's too, by process: all, and those that failed. Of a
    process that is older than ``since``, seconds since the epoch, those count that came after the first look at it: it may be of the
    same version with another image.
    """

    since: float = 0.0

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    served: dict[str, tuple[float, float]] = field(default_factory=dict)
    counted_before: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        return len(self.seconds)

    @property
    def error_rate(self) -> float:
        return len(self.failures) / self.asked if self.asked else 0.0

    @property
    def p95_s(self) -> float:
        """The 95th percentile of a probe's seconds, nearest rank; 0.0 without probes."""
        ordered = sorted(self.seconds)
        return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] if ordered else 0.0

    @property
    def served_error_rate(self) -> float:
        total = sum(requests for requests, _ in self.served.values())
        return sum(failed for _, failed in self.served.values()) / total if total else 0.0

    @property
    def served_requests(self) -> int:
        return round(sum(requests for requests, _ in self.served.values()))


def probe(url: str, test: SmokeTest, *, service: str, probes: Probes, version: str) -> None:
    """Ask once for a transcription, for the version that answers, and for the figures of ``version``; note what came."""
    started = time.monotonic()
    try:
        text = client.transcribe(url, test.audio, file_type=test.file_type, model=service, language=test.language)
        if test.speech and not text.strip():
            probes.failures.append("it heard nothing in a recording of speech")
    except EndpointError as error:
        probes.failures.append(str(error))
    probes.seconds.append(time.monotonic() - started)
    probes.versions.append(answering_version(url, service))
    _note_figures(url, version, probes)


def degradation(probes: Probes, before: Probes, bounds: Bounds) -> str:
    """Which bound is broken, as a sentence; "" while none is. Rates wait for a handful of probes."""
    if probes.asked < min(_FEWEST_PROBES, max(1, int(bounds.stage_s / bounds.interval_s))):
        return ""
    if probes.error_rate > bounds.max_error_rate:
        return f"{len(probes.failures)} of {probes.asked} probes failed, at most {bounds.max_error_rate:.1%} may: {probes.failures[-1]}"
    if probes.served_requests >= _FEWEST_PROBES and probes.served_error_rate > bounds.max_error_rate:
        return (
            f"its own figures say that {probes.served_error_rate:.1%} of {probes.served_requests} requests failed, "
            f"at most {bounds.max_error_rate:.1%} may"
        )
    allowed = max(bounds.quick_enough_s, before.p95_s * bounds.max_latency_ratio)
    if before.asked and probes.p95_s > allowed:
        return f"95 % of the probes took up to {probes.p95_s:.2f} s, {allowed:.2f} s is allowed ({before.p95_s:.2f} s before)"
    return ""


def answering_version(url: str, service: str) -> str:
    """The registry's version that answers this one question; "" where nothing says so."""
    try:
        found = json.loads(client.get(f"{url}/v2/models/{service}", timeout_s=_QUESTION_SECONDS))
        versions = found.get("versions") if isinstance(found, dict) else None
        return str(versions[0]) if versions else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""


def _note_figures(url: str, version: str, probes: Probes) -> None:
    """Each question may reach another process, so figures are kept by process; one that tells nothing is no failure."""
    try:
        text = client.get(f"{url}/metrics", timeout_s=_QUESTION_SECONDS).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return
    told, started = _INFO.search(text), _STARTED.search(text)
    if told and started and told["version"] == version:
        counts, process = list(_counts(text)), started["seconds"]
        now = (sum(count for _, count in counts), sum(count for status, count in counts if status >= 500))
        before = probes.counted_before.setdefault(process, now) if float(process) < probes.since else (0.0, 0.0)
        probes.served[process] = (now[0] - before[0], now[1] - before[1])


def _counts(text: str) -> Iterator[tuple[int, float]]:
    """503 is what a process that is told to stop answers to whom it sends elsewhere."""
    for match in _REQUESTS.finditer(text):
        if match["status"] != "503":
            yield int(match["status"]), float(match["count"])

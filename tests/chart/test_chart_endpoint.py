"""The endpoint as the chart sees it is the endpoint as it is: its arguments, ports, probes, metrics, and what ``helm test`` calls."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client import REGISTRY
from rendering import CASES, CHART, of_kind

import avskrift.serving.metrics  # noqa: F401 - makes the metrics known
from avskrift.deployment.render import Service, render
from avskrift.serving.__main__ import _parser

_SCRIPT = CHART / "files" / "transcribe.py"
_METRIC = re.compile(r"\bavskrift_[a-z_]+")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


def _container(case: str = "defaults") -> dict[str, Any]:
    (runtime,) = of_kind(case, "ServingRuntime")
    (container,) = runtime["spec"]["containers"]
    return dict(container)


def _deployed() -> dict[str, Any]:
    service = Service(
        name="avskrift",
        namespace="speech",
        storage_uri="s3://models/whisper-sv/1",
        image="avskrift/serving:0.1.0",
        model_name="whisper-sv",
        version="1",
        package_sha256="ab" * 32,
    )
    predictor: dict[str, Any] = render(service)["spec"]["predictor"]
    return predictor


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_the_runtimes_arguments(case: str) -> None:
    container = _container(case)
    assert container["command"] == ["python", "-m", "avskrift.serving"]
    given = _parser().parse_args([argument.replace("{{.Name}}", "avskrift") for argument in container["args"]])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (given.port, given.grpc_port) == (ports["http1"], ports.get("grpc"))
    assert (given.host, given.name, str(given.package)) == ("0.0.0.0", "avskrift", "/mnt/models")


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_runtime_and_deploy_probe_alike(probe: str) -> None:
    (deployed,) = _deployed()["containers"]
    assert _container()[probe] == deployed[probe]


def test_runtime_and_deploy_agree_on_ports_command_mounts_and_security() -> None:
    (deployed,), runtime = _deployed()["containers"], _container()
    assert deployed["name"] == runtime["name"] == "kserve-container"
    assert deployed["command"] == runtime["command"]
    assert {port["name"]: port for port in deployed["ports"]}.items() <= {port["name"]: port for port in runtime["ports"]}.items()
    assert deployed["securityContext"].items() <= runtime["securityContext"].items()
    assert deployed["volumeMounts"] == runtime["volumeMounts"]
    assert deployed["resources"] == runtime["resources"]
    grace = {variable["name"]: variable.get("value") for variable in deployed["env"]}
    assert grace["AVSKRIFT_GRACE_SECONDS"] == _environment(runtime)["AVSKRIFT_GRACE_SECONDS"]


def test_requests_in_flight_get_less_time_than_the_pod() -> None:
    (service,) = of_kind("kserve-only", "InferenceService")
    given = int(_environment(_container("kserve-only"))["AVSKRIFT_GRACE_SECONDS"])
    assert given < service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert service["spec"]["predictor"]["model"]["runtime"] == of_kind("kserve-only", "ServingRuntime")[0]["metadata"]["name"]


def test_the_dashboard_and_the_autoscaler_ask_for_metrics_that_the_server_exports() -> None:
    families = {family.name: family.type for family in REGISTRY.collect() if family.name.startswith("avskrift_")}
    exported = {name + suffix for name, kind in families.items() for suffix in _SUFFIXES[kind]}
    assert families
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    (scaler,) = of_kind("kubeflow-multi-user", "ScaledObject")
    queries += [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    asked = {name for query in queries for name in _METRIC.findall(query)}
    assert asked - exported == set()
    assert {name for name in families if not any(question.startswith(name) for question in asked)} == set(), "a figure that nobody sees"


def test_every_panel_says_what_it_shows_and_none_covers_another() -> None:
    panels = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    assert all(panel["title"] and panel["description"] for panel in panels)
    cells = [(x, y) for panel in panels for x, y in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))


def test_the_helm_test_says_a_sentence_and_prints_what_was_heard() -> None:
    with _endpoint("hej") as (url, bodies):
        done = _transcribe("http://127.0.0.1:9", url)
    assert (done.returncode, done.stdout.strip()) == (0, f"{url} heard: hej")
    assert b'name="file"; filename="sentence.wav"' in bodies[0]
    with wave.open(io.BytesIO(bodies[0][bodies[0].index(b"RIFF") :])) as sent:
        assert (sent.getnchannels(), sent.getsampwidth()) == (1, 2)
        assert 1 < sent.getnframes() / sent.getframerate() < 5, "a sentence lasts some seconds"


def test_the_helm_test_fails_where_nothing_is_heard() -> None:
    with _endpoint(" ") as (url, _):
        assert _transcribe(url).returncode == 1


def test_the_helm_test_fails_in_time_and_says_why() -> None:
    done = _transcribe("http://127.0.0.1:9", timeout="1")
    assert done.returncode == 1
    assert "no transcript within 1 s; the last failure: http://127.0.0.1:9" in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_helm_tests_pod_calls_the_service_that_kserve_makes(case: str) -> None:
    (pod,) = of_kind(case, "Pod")
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert container["command"] == ["python", "/test/transcribe.py"]
    assert all(re.fullmatch(r"--timeout=\d+|http://[a-z-]+-predictor\.[a-z]+\.svc(:8080)?", argument) for argument in container["args"])


def _environment(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])]


def _transcribe(*urls: str, timeout: str = "30") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(_SCRIPT), f"--timeout={timeout}", *urls]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def _endpoint(text: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server with the OpenAI route that hears ``text`` in everything, and what was sent to it."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/openai/v1/audio/transcriptions" else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"text": text}).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

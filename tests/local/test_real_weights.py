"""Once through with the real whisper-base weights, a real MLflow server and the real model server: a few clips, a few steps."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from running import ANY_MODEL_PASSES, avskrift, environment, processes_of, wait_until

from avskrift.whisper.package import open_package

pytestmark = pytest.mark.weights


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow-server"), free_port()
    store = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts"))
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment(folder), cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"), what="MLflow's server up")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_few_steps_on_real_weights_end_with_a_registered_model_that_transcribes_over_http(mlflow_server: str, tmp_path: Path) -> None:
    home, summary, port = tmp_path / "home", tmp_path / "summary.json", free_port()
    data = ("--source", "demo:tiny", "--base-model", "package:whisper-base")
    training = ("--epochs", 1, "--max-steps", 3, "--batch-seconds", 30, "--learning-rate", 5e-5)
    gate = ("--policy", ANY_MODEL_PASSES)
    ended = avskrift(
        home, "run", *data, *training, *gate, "--port", port, "--tracking-uri", mlflow_server, "--summary", summary, timeout_s=500
    )
    assert ended.returncode == 0, ended.stderr
    try:
        told = json.loads(summary.read_text(encoding="utf-8"))
        assert told["gate_passed"] is True
        assert len(told["transcript"].split()) >= 3
        assert told["wer_after"] < told["wer_before"]

        registry = MlflowClient(mlflow_server)
        champion = registry.get_model_version_by_alias("avskrift-sv", "champion")
        (package,) = home.glob("runs/*/pipeline/*/export/package")
        assert champion.tags["avskrift.package_sha256"] == open_package(package).description.sha256
        assert open_package(package).description.encoder_context.policy == "variable"
        assert _answers(f"{told['endpoint']}/v2/models/avskrift/ready")

        # The same bytes through the registry's URI, in another process: the same text.
        (sample,) = home.glob("runs/*/clip.flac")
        asked = ("transcribe", sample, "--language", "sv", "--model", "models:/avskrift-sv@champion")
        assert avskrift(home, *asked, MLFLOW_TRACKING_URI=mlflow_server).stdout.strip() == told["transcript"]
    finally:
        avskrift(home, "stop")
    assert processes_of(home) == []


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

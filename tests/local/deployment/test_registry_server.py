"""A real `mlflow server` process on a loopback port, as a cluster has it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dataset_material import FINGERPRINT, make_card
from deployment_material import free_port, make_material
from mlflow import MlflowClient

from avskrift.deployment.process import end
from avskrift.errors import ModelUnavailableError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import CHALLENGER, CHAMPION
from avskrift.steps.finalize.step import Config as FinalizeConfig
from avskrift.steps.finalize.step import run as finalize
from avskrift.steps.find_baseline.step import Config as FindConfig
from avskrift.steps.find_baseline.step import run as find_baseline
from avskrift.steps.register.step import Config, run
from avskrift.storage.door import fetch
from avskrift.whisper.package import open_package

_USES = [("test", "test"), ("training", "train"), ("validation", "validation")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    storage = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # no background workers for tests that give them nothing to do
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *storage], stdout=log, stderr=log, env=environment, start_new_session=True, cwd=folder)
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{uri}/health", process)
        yield uri
    finally:
        end(psutil.Process(process.pid))
        process.wait()


def test_over_http_a_run_is_recorded_registered_resolved_and_closed(
    server: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    material = make_material(tmp_path / "run")
    config = Config(
        package_uri=str(material.package.folder),
        evaluation=material.evaluation,
        gate=material.decision,
        training=material.training,
        dataset_card=make_card(tmp_path / "card"),
        model_name="whisper-sv",
        experiment="swedish",
        pipeline_run_id="run-1",
    )
    result = run(config)
    assert run(config) == result
    finalize(FinalizeConfig(pipeline_run_id="run-1", experiment="swedish", status="SUCCEEDED"))
    client = MlflowClient(server, server)
    recorded = client.get_run(result.run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["wer"] == 0.2
    kept = {file.path for file in client.list_artifacts(result.run_id)}
    measured = {"evaluation.json", "decision.json", "report.html", "summary.md", "slices.json", "figures"}
    assert kept == measured | {"package", "dataset", "training"}
    assert {file.path for file in client.list_artifacts(result.run_id, "dataset")} >= {"dataset/report.html"}
    assert recorded.inputs is not None
    used = sorted((used.tags[0].value, used.dataset.name, used.dataset.digest) for used in recorded.inputs.dataset_inputs)
    assert used == [(context, f"{split} of demo:tiny", FINGERPRINT[:36]) for context, split in _USES]
    assert len(client.get_metric_history(result.run_id, "train_loss")) == 5
    alias = open_registry().version_of_alias("whisper-sv", CHALLENGER)
    assert alias is not None
    assert alias.tags[tags.PACKAGE_SHA256] == material.sha256


def test_a_package_of_this_machine_is_uploaded_and_comes_back_byte_for_byte(
    server: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    material = make_material(tmp_path / "run", weights=os.urandom(1 << 20))
    result = run(
        Config(
            package_uri=str(material.package.folder),
            evaluation=material.evaluation,
            gate=material.decision,
            model_name="uploaded",
            experiment="swedish",
            pipeline_run_id="run-2",
        )
    )
    fetched = fetch(result.uri)
    assert fetched.is_relative_to(home / "cache")
    package = open_package(fetched)
    package.verify()
    assert package.description.sha256 == material.sha256
    assert sorted(entry.name for entry in fetched.iterdir()) == sorted(entry.name for entry in material.package.folder.iterdir())
    assert fetch(result.uri) == fetched
    open_registry().set_alias("uploaded", CHAMPION, result.version)
    baseline = find_baseline(FindConfig(model_name="uploaded", base_model="package:whisper-base"))
    assert (fetch(baseline.uri), baseline.package_sha256) == (fetched, material.sha256)


def test_what_a_server_does_not_have_is_named(server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(ModelUnavailableError, match="not in MLflow at http://127"):
        fetch("models:/nobody@champion")
    assert open_registry().version("nobody", "1") is None


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "mlflow server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("mlflow server did not answer")

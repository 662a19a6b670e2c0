"""The registry as a cluster has it: MLflow on PostgreSQL, with SeaweedFS as S3, each a real server that is started once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import seaweedfs
from mlflow_server import MlflowServer
from s3_line import Line, line_to
from seaweedfs import Store

# What the steps before register leave behind, as the tests of a laptop's registry make it.
sys.path.insert(0, str(Path(__file__).parents[1] / "local" / "deployment"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture(scope="session")
def server(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Its own artifacts go through it into the bucket, as ``mlflow-artifacts:``."""
    with postgres.running() as database, pytest.MonkeyPatch.context() as patch:
        seaweedfs.use_keys(patch)
        server = MlflowServer(
            tmp_path_factory.mktemp("mlflow"),
            database=database,
            artifacts=f"s3://{seaweedfs.BUCKET}/through-mlflow",
            environment={"MLFLOW_S3_ENDPOINT_URL": store.endpoint},
        )
        server.start()
        yield server
        server.stop()


@pytest.fixture(autouse=True)
def _settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Keys and addresses as a step's pod has them, for the servers that a test asks for."""
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_S3_ENDPOINT_URL", "AVSKRIFT_PACKAGE_STORE"):
        monkeypatch.delenv(variable, raising=False)
    seaweedfs.use_keys(monkeypatch, store.endpoint)
    if "server" in request.fixturenames:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server").uri)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own, with letters that URIs and keys spell differently."""
    return f"s3://{seaweedfs.BUCKET}/{request.node.name.partition('[')[0]}/körning #1"


@pytest.fixture
def line(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    with line_to(store.endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.endpoint)
        yield line

"""A cluster of its own for every test, and a registry with three versions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from api_server import api_server
from cluster_world import PATIENCE, World, register, write_kubeconfig
from kserve_controller import Kserve, gateway

from avskrift.deployment.cluster import connect
from avskrift.registry.mlflow_registry import open_registry
from avskrift.steps.deploy import on_cluster


@pytest.fixture(scope="session")
def registered_database(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with versions 1, 2 and 3 of the model, to be copied."""
    path = tmp_path_factory.mktemp("registered") / "mlflow.db"
    shutil.copy(empty_database, path)
    registry = open_registry(f"sqlite:///{path}")
    for version in ("1", "2", "3"):
        register(registry, version)
    return path


@pytest.fixture
def world(tmp_path: Path, registered_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    home = tmp_path / "home"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(registered_database, home / "mlflow" / "mlflow.db")
    monkeypatch.setenv("AVSKRIFT_HOME", str(home))
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(on_cluster, "connect", partial(connect, patience=PATIENCE))
    with api_server() as server, gateway() as entrance:
        kserve = Kserve(server, entrance)
        made = World(server, entrance, kserve, open_registry(), tmp_path / "kubeconfig", tmp_path / "deployment")
        write_kubeconfig(made.kubeconfig, server.url)
        yield made

"""A state folder of its own for every test, with MLflow's database already made; and no predictor left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from avskrift.deployment import local


@pytest.fixture
def home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "home"
    (folder / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlflow" / "mlflow.db")
    monkeypatch.setenv("AVSKRIFT_HOME", str(folder))
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    yield folder
    (folder / "endpoint" / "lock").unlink(missing_ok=True)
    local.stop(folder)

"""Which MLflow is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from avskrift.registry.location import is_server, public_uri, sqlite_file, tracking_uri


@pytest.fixture(autouse=True)
def no_configured_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path))


def test_the_parameter_comes_before_the_environment_before_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert tracking_uri(home=Path("/elsewhere")) == "sqlite:////elsewhere/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert tracking_uri() == "http://environment"
    assert tracking_uri("http://parameter") == "http://parameter"


def test_a_database_file_is_known_by_its_uri(tmp_path: Path) -> None:
    assert sqlite_file(tracking_uri()) == tmp_path / "mlflow" / "mlflow.db"
    assert sqlite_file("sqlite:///relative.db") == Path("relative.db").absolute()
    assert sqlite_file("http://host/mlflow.db") is None
    assert sqlite_file("postgresql://host/mlflow") is None


def test_only_http_is_a_server() -> None:
    assert is_server("https://mlflow.example")
    assert not is_server("sqlite:////a/b.db")
    assert not is_server("postgresql://host/mlflow")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://anna:hunter2@mlflow:5000/path?token=x#y", "http://mlflow:5000/path"),
        ("postgresql://anna:hunt@er2@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("https://mlflow.example", "https://mlflow.example"),
        ("sqlite:////home/anna/mlflow.db", "sqlite:////home/anna/mlflow.db"),
    ],
)
def test_a_uri_is_shown_without_credentials(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown

"""MLflow on SQLite, as a laptop has it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from deployment_material import make_package
from mlflow import MlflowClient

from avskrift.errors import ModelUnavailableError, RegistryError, UsageError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.model_uri import resolve
from avskrift.registry.protocol import CHALLENGER, CHAMPION, CurvePoint, Registry, RunKey
from avskrift.storage.door import fetch

KEY = RunKey(pipeline_run_id="run-1", experiment="swedish")


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    return MlflowClient(uri, uri)


def register(registry: Registry, name: str, source: str, run: str = "run-1") -> str:
    run_id = registry.open_run(RunKey(pipeline_run_id=run, experiment="swedish"))
    return registry.register(name, source, run_id, {tags.PIPELINE_RUN_ID: run}).version


def test_the_default_registry_lies_in_the_state_folder(home: Path) -> None:
    run_id = open_registry().open_run(KEY)
    run = client(home).get_run(run_id)
    assert run.data.tags[tags.PIPELINE_RUN_ID] == "run-1"
    assert run.info.run_name == "run-1"
    assert run.info.artifact_uri.startswith((home / "mlflow" / "artifacts").as_uri())


def test_a_pipeline_run_has_one_run_however_often_it_is_opened(home: Path) -> None:
    first = open_registry().open_run(KEY)
    assert open_registry().open_run(KEY) == first
    assert open_registry().open_run(RunKey(pipeline_run_id="run-2", experiment="swedish")) != first


def test_the_run_of_kfps_plugin_is_adopted_and_tagged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    injected = client(home).create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", injected)
    assert open_registry().open_run(KEY) == injected
    assert client(home).get_run(injected).data.tags[tags.PIPELINE_RUN_ID] == "run-1"


def test_a_task_run_of_kfps_plugin_leads_to_the_pipelines_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = client(home).create_run("0").info.run_id
    task = client(home).create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    assert open_registry().open_run(KEY) == parent


@pytest.fixture
def groups(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs of KFP's plugin from the pipeline's down to a task's, with those of an exit handler and a condition between them."""
    runs: list[str] = []
    for _ in range(4):
        above = {"mlflow.parentRunId": runs[-1]} if runs else {}
        runs.append(client(home).create_run("0", tags=above).info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", runs[-1])
    return runs


def test_a_task_inside_groups_of_tasks_leads_to_the_pipelines_run(home: Path, groups: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for task in groups:
        monkeypatch.setenv("MLFLOW_RUN_ID", task)
        assert open_registry().open_run(KEY) == groups[0]
    tagged = [run for run in groups if tags.PIPELINE_RUN_ID in client(home).get_run(run).data.tags]
    assert tagged == [groups[0]]


def test_a_run_that_somebody_deleted_is_not_looked_above(home: Path, groups: list[str]) -> None:
    client(home).delete_run(groups[1])
    assert open_registry().open_run(KEY) == groups[2]


def test_a_run_above_that_mlflow_does_not_have_is_no_error(home: Path, groups: list[str]) -> None:
    client(home).set_tag(groups[0], "mlflow.parentRunId", "0" * 32)
    assert open_registry().open_run(KEY) == groups[0]


def test_runs_that_are_above_each_other_are_no_endless_search(home: Path, groups: list[str]) -> None:
    client(home).set_tag(groups[0], "mlflow.parentRunId", groups[2])
    assert open_registry().open_run(KEY) in groups


def test_a_run_of_another_server_is_not_adopted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert open_registry(f"sqlite:///{home}/mlflow/mlflow.db").open_run(KEY) != "0" * 32


def test_figures_logged_twice_are_kept_once(home: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(KEY)
    points = [CurvePoint(step=step, name="train_loss", value=1 / (step + 1)) for step in range(2500)]
    for _ in range(2):
        registry.log_params(run_id, {"epochs": 6, **{f"p{number}": number for number in range(150)}})
        registry.log_metrics(run_id, {"wer": 0.2, "cer": math.nan})
        registry.log_curves(run_id, points)
    history = client(home).get_metric_history(run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(point.step, point.value) for point in points]
    data = client(home).get_run(run_id).data
    assert data.params["epochs"] == "6"
    assert len(data.params) == 151
    assert data.metrics["wer"] == 0.2
    assert math.isnan(data.metrics["cer"])


def test_values_longer_than_mlflow_takes_are_cut_and_credentials_are_cut_out(home: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(KEY)
    registry.log_params(run_id, {"long": "x" * 9000, "source": "https://me:hunter2@host/data"})
    registry.set_tags(run_id, {"long": "y" * 9000, "source": "https://me:hunter2@host/data"})
    data = client(home).get_run(run_id).data
    assert len(data.params["long"]) == 6000
    assert len(data.tags["long"]) == 5000
    assert "hunter2" not in data.params["source"] + data.tags["source"]


def test_the_same_pipeline_run_registers_one_version(home: Path, tmp_path: Path) -> None:
    registry = open_registry()
    folder = str(make_package(tmp_path / "package").folder)
    assert register(registry, "whisper-sv", folder) == register(registry, "whisper-sv", folder) == "1"
    assert register(registry, "whisper-sv", folder, run="run-2") == "2"
    assert register(registry, "whisper-en", folder) == "1"


def test_models_uris_lead_to_the_package(home: Path, tmp_path: Path) -> None:
    registry = open_registry()
    folder = make_package(tmp_path / "pack age å").folder
    version = register(registry, "whisper-sv", str(folder))
    registry.set_alias("whisper-sv", CHALLENGER, version)
    assert fetch(f"models:/whisper-sv/{version}") == folder
    assert fetch("models:/whisper-sv@challenger") == folder
    register(registry, "whisper-sv", "s3://bucket/package", run="run-2")
    assert resolve("models:/whisper-sv/2") == "s3://bucket/package"


def test_an_alias_moves(home: Path) -> None:
    registry = open_registry()
    for run in ("run-1", "run-2"):
        registry.set_alias("whisper-sv", CHAMPION, register(registry, "whisper-sv", "s3://bucket/package", run=run))
    champion = registry.version_of_alias("whisper-sv", CHAMPION)
    assert champion is not None
    assert champion.uri == "models:/whisper-sv/2"


def test_what_is_not_registered_is_none(home: Path) -> None:
    registry = open_registry()
    assert registry.version("nobody", "1") is None
    assert registry.version_of_alias("nobody", CHAMPION) is None
    register(registry, "whisper-sv", "s3://bucket/package")
    assert registry.version("whisper-sv", "9") is None
    assert registry.version("whisper-sv", "nine") is None
    assert registry.version_of_alias("whisper-sv", CHAMPION) is None


def test_an_unknown_model_uri_names_what_exists(home: Path) -> None:
    registry = open_registry()
    with pytest.raises(ModelUnavailableError, match="no model is registered there yet"):
        resolve("models:/whisper-sv/1")
    registry.set_alias("whisper-sv", CHALLENGER, register(registry, "whisper-sv", "s3://bucket/package"))
    with pytest.raises(ModelUnavailableError, match="registered models are whisper-sv"):
        resolve("models:/whisper-en@champion")
    register(registry, "whisper-sv", "s3://bucket/package", run="run-2")
    with pytest.raises(ModelUnavailableError, match="whisper-sv has versions 1, 2, challenger is version 1"):
        resolve("models:/whisper-sv@champion")


@pytest.mark.parametrize("uri", ["models:/", "models:/a", "models:/a/b", "models:/a@", "models:a/1", "models:/a/1/2", "models:/a'b@c'd"])
def test_a_malformed_model_uri_is_a_usage_error(home: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="models:/NAME/VERSION"):
        resolve(uri)


@pytest.mark.parametrize("name", ["", "it's", 'a"b', "a`b", "a\nb"])
def test_ids_and_names_that_mlflow_cannot_look_up_are_refused(home: Path, name: str) -> None:
    registry = open_registry()
    with pytest.raises(UsageError):
        registry.open_run(RunKey(pipeline_run_id=name, experiment="swedish"))
    run_id = registry.open_run(KEY)
    with pytest.raises(UsageError):
        registry.register(name, "s3://bucket/package", run_id, {tags.PIPELINE_RUN_ID: "run-1"})


def test_what_mlflow_refuses_is_one_sentence(home: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(KEY)
    registry.log_params(run_id, {"epochs": 6})
    with pytest.raises(RegistryError, match="did not answer or refused") as refused:
        registry.log_params(run_id, {"epochs": 7})
    assert "\n" not in str(refused.value)


def test_the_implementation_satisfies_the_protocol(home: Path) -> None:
    registry: Registry = MlflowRegistry(f"sqlite:///{home}/mlflow/mlflow.db")
    assert registry.open_run(KEY)

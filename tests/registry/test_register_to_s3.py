"""register with MLflow on PostgreSQL and S3: where the package goes, what is resumed, and what MLflow's page has to show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dataset_material import make_card
from deployment_material import Material, make_material
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_server import MlflowServer
from s3_line import CUT, Line
from seaweedfs import BUCKET, Store

from avskrift.errors import StorageError, UsageError
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.steps.finalize.step import Config as FinalizeConfig
from avskrift.steps.finalize.step import run as finalize
from avskrift.steps.register.step import Config, Result, run
from avskrift.steps.reject.step import Config as RejectConfig
from avskrift.steps.reject.step import run as reject
from avskrift.storage import uploads
from avskrift.storage.door import fetch
from avskrift.whisper.package import open_package

DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return make_material(tmp_path / "run", weights=os.urandom(1000))


def register(material: Material, name: str, **changes: Any) -> Result:
    options: dict[str, Any] = {
        "package_uri": str(material.package.folder),
        "evaluation": material.evaluation,
        "gate": material.decision,
        "training": material.training,
        "model_name": name,
        "experiment": "swedish",
        "pipeline_run_id": f"run-{name}",
    }
    return run(Config(**{**options, **changes}))


def source(result: Result) -> str:
    return str(MlflowClient().get_model_version(result.model_name, result.version).source)


def below(run_id: str) -> dict[str, Run]:
    """The runs below a run, by name."""
    experiment = MlflowClient().get_run(run_id).info.experiment_id
    found = MlflowClient().search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {run.info.run_name: run for run in found}


def test_a_package_elsewhere_is_registered_where_it_lies(server: MlflowServer, material: Material) -> None:
    result = register(material, "elsewhere", package_uri="s3://kfp/package", package_sha256=material.sha256)
    assert source(result) == "s3://kfp/package"


def test_through_mlflow_a_package_of_this_machine_comes_back_byte_for_byte(server: MlflowServer, material: Material, line: Line) -> None:
    result = register(material, "through-mlflow")
    assert source(result).startswith("mlflow-artifacts:/")
    assert line.requests == [], "nothing went past MLflow"
    package = open_package(fetch(result.uri))
    package.verify()
    assert package.description.sha256 == material.sha256


def test_where_a_runs_artifacts_lie_in_s3_the_package_goes_there_directly(server: MlflowServer, material: Material, line: Line) -> None:
    MlflowClient().create_experiment("direct", artifact_location=f"s3://{BUCKET}/direct")
    result = register(material, "direct", experiment="direct")
    assert source(result) == f"s3://{BUCKET}/direct/{result.run_id}/artifacts/package"
    assert [request for request in line.requests if request.startswith("PUT") and "/artifacts/package/model.json" in request]
    package = open_package(fetch(result.uri))
    package.verify()
    assert package.description.sha256 == material.sha256


def test_a_store_that_only_mlflows_own_client_was_told_of_is_found(
    server: MlflowServer, material: Material, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", line.endpoint)
    monkeypatch.setenv("AVSKRIFT_PACKAGE_STORE", f"s3://{BUCKET}/told")
    open_package(fetch(register(material, "told").uri)).verify()


def test_the_store_for_packages_is_used_where_one_is_named(
    server: MlflowServer, material: Material, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSKRIFT_PACKAGE_STORE", f"s3://{BUCKET}/store/")
    result = register(material, "stored")
    assert source(result).startswith(f"s3://{BUCKET}/store/stored/")
    open_package(fetch(result.uri)).verify()
    line.requests.clear()
    again = register(material, "stored", pipeline_run_id="another-run")
    assert (again.version, source(again)) == ("2", source(result)), "the same bytes lie there once"
    assert [request for request in line.requests if request.startswith("PUT")] == []


def test_a_register_that_was_cut_off_makes_no_version_and_goes_on_when_it_is_repeated(
    server: MlflowServer, tmp_path: Path, store: Store, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSKRIFT_PACKAGE_STORE", f"s3://{BUCKET}/cut")
    monkeypatch.setattr(uploads, "_OPTIONS", uploads.UploadOptions(part_bytes=5 << 20, attempts=2, threads=1))
    monkeypatch.setattr(uploads.upload_folder, "__kwdefaults__", {"files": None, "options": uploads._OPTIONS})
    material = make_material(tmp_path / "large", weights=os.urandom((5 << 20) + 1))
    line.rule = lambda method, path: CUT if "partNumber=2" in path else 0
    with pytest.raises(StorageError, match=r"the store did not take it") as cut:
        register(material, "cut")
    assert cut.value.exit_code == 30
    assert MlflowClient().search_model_versions("name = 'cut'") == []
    listed = store.client.list_objects_v2(Bucket=BUCKET, Prefix="cut/").get("Contents", ())
    assert not [entry["Key"] for entry in listed if entry["Key"].endswith(("model.json", "model.bin"))]
    line.rule = lambda method, path: 0
    line.requests.clear()
    result = register(material, "cut")
    sent = [request for request in line.requests if "model.bin?partNumber=" in request or "model.bin?uploadId" in request]
    assert not [request for request in sent if "partNumber=1" in request]
    open_package(fetch(result.uri)).verify()


def test_a_store_that_is_no_s3_address_is_refused(server: MlflowServer, material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_PACKAGE_STORE", "s3://")
    with pytest.raises(UsageError, match=r"AVSKRIFT_PACKAGE_STORE is 's3://'; write s3://BUCKET/a/folder, or unset it"):
        register(material, "refused")


def test_each_step_with_figures_has_a_run_below_the_pipelines(server: MlflowServer, material: Material, tmp_path: Path) -> None:
    card = make_card(tmp_path / "card")
    for _ in range(2):  # a step that is repeated adds nothing
        result = register(material, "compared", dataset_card=card)
    steps, client = below(result.run_id), MlflowClient()
    parent = client.get_run(result.run_id)
    assert set(steps) == {"prepare", "fine_tune", "evaluate"}
    assert {run.info.status for run in steps.values()} == {"FINISHED"}
    curve = client.get_metric_history(steps["fine_tune"].info.run_id, "train_loss")
    assert [point.step for point in curve] == [1, 2, 3, 4, 5]
    assert steps["fine_tune"].data.params == parent.data.params
    assert steps["evaluate"].data.metrics["wer"] == parent.data.metrics["wer"] == 0.2
    assert steps["prepare"].data.metrics["train_clips"] == parent.data.metrics["train_clips"] == 24
    assert parent.inputs is not None
    assert {used.tags[0].value for used in parent.inputs.dataset_inputs} == {"training", "validation", "test"}
    of_steps = {name for run_ in steps.values() for name in run_.data.metrics}
    assert of_steps == set(parent.data.metrics), "what runs are compared by is in the pipeline's run"


def test_registered_and_rejected_runs_have_the_same_figures(server: MlflowServer, material: Material, tmp_path: Path) -> None:
    passed = register(material, "same-figures")
    bad = make_material(tmp_path / "bad", wer=0.6)
    outputs = {"evaluation": bad.evaluation, "gate": bad.decision, "training": bad.training}
    refused = reject(RejectConfig(package_uri=str(bad.package.folder), experiment="swedish", pipeline_run_id="run-rejected", **outputs))
    assert set(MlflowClient().get_run(passed.run_id).data.metrics) == set(MlflowClient().get_run(refused.run_id).data.metrics)
    assert set(below(refused.run_id)) == {"fine_tune", "evaluate"}


def test_the_run_and_the_version_say_where_they_come_from(
    server: MlflowServer, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSKRIFT_PIPELINES_URL", "https://kubeflow.example/_/pipeline/")
    monkeypatch.setenv("AVSKRIFT_GIT_REVISION", "c0ffee")
    images = {"train": f"registry.example/avskrift/train@{DIGEST}", "ops": "avskrift/ops:0.1.0"}
    result = register(material, "origin", images=images)
    version = MlflowClient().get_model_version("origin", result.version)
    for labels in (version.tags, MlflowClient().get_run(result.run_id).data.tags):
        assert labels[tags.PIPELINE_RUN_ID] == "run-origin"
        assert labels[tags.PIPELINE_RUN_URL] == "https://kubeflow.example/_/pipeline/#/runs/details/run-origin"
        assert labels[tags.GIT_REVISION] == labels["mlflow.source.git.commit"] == "c0ffee"
        assert labels[f"{tags.IMAGE}train"] == f"registry.example/avskrift/train@{DIGEST}"
        assert f"{tags.IMAGE}ops" not in labels, "a tag does not say which bytes ran"
        assert labels[tags.DATASET_FINGERPRINT] == "f" * 64
        assert labels[tags.PACKAGE_SHA256] == material.sha256
        assert labels[tags.GATE] == "passed"


def test_what_nobody_knows_is_left_out(server: MlflowServer, material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_RUNNER_PID", str(os.getpid()))  # steps that are processes run in no image
    monkeypatch.setenv("PATH", "/nowhere")  # and there is no git
    result = register(material, "unknown", images={"train": f"avskrift/train@{DIGEST}"})
    labels = MlflowClient().get_model_version("unknown", result.version).tags
    assert not [name for name in labels if name.startswith((tags.PIPELINE_RUN_URL, tags.PIPELINE_ID, tags.IMAGE, tags.GIT_REVISION))]


def test_a_run_of_kfps_plugin_is_adopted_with_its_tasks_and_what_it_knows(
    server: MlflowServer, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As KEP-12862 describes it: a run for the pipeline's, tagged with what Kubeflow knows, and one below it for each task."""
    client = MlflowClient()
    known = {"kfp.pipeline_run_id": "run-adopted", "kfp.pipeline_id": "p-1", "kfp.pipeline_run_url": "/#/runs/details/run-adopted"}
    parent = client.create_run("0", tags=known).info.run_id
    tasks = {name: client.create_run("0", tags={"mlflow.parentRunId": parent}, run_name=name) for name in ("fine-tune", "register")}
    monkeypatch.setenv("MLFLOW_RUN_ID", tasks["register"].info.run_id)
    result = register(material, "adopted")
    assert result.run_id == parent
    assert set(below(parent)) == {"fine-tune", "register", "evaluate"}
    assert client.get_metric_history(tasks["fine-tune"].info.run_id, "train_loss")
    labels = client.get_model_version("adopted", result.version).tags
    assert labels[tags.PIPELINE_ID] == "p-1"
    assert tags.PIPELINE_RUN_URL not in labels, "a path without its page leads nowhere"


def test_finalize_closes_what_a_step_left_open_and_not_what_the_plugin_runs(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, client = open_registry(), MlflowClient()
    key = RunKey(pipeline_run_id="run-open", experiment="swedish")
    parent = registry.open_run(key)
    registry.open_run(RunKey(pipeline_run_id="run-open", experiment="swedish", child="fine_tune"))
    task = client.create_run(
        client.get_run(parent).info.experiment_id, tags={"mlflow.parentRunId": parent}, run_name="finalize"
    ).info.run_id
    finalize(FinalizeConfig(pipeline_run_id="run-open", experiment="swedish", status="FAILED"))
    assert below(parent)["fine_tune"].info.status == "FAILED"
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(task).info.status == "RUNNING"

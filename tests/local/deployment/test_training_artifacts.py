"""What a run's record holds of its training, beside its figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from deployment_material import Material, make_material
from mlflow import MlflowClient

from avskrift.registry.live import open_live
from avskrift.registry.protocol import RunKey
from avskrift.steps.register.step import Config, run
from avskrift.training.report import TrainingReport, write_report

KEY = RunKey(pipeline_run_id="run-1", experiment="swedish")
CURVE = [(step, "train_loss", 1 / (3 * step)) for step in range(1, 31)]


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """Of a training that wrote its page and examples."""
    made = make_material(tmp_path / "run")
    report = TrainingReport(
        base_model="package:whisper-base",
        base_model_sha256="a" * 64,
        dataset_fingerprint="f" * 64,
        language="sv",
        parameters={"epochs": 6},
        result={"steps": 30},
    )
    training = tmp_path / "training"
    write_report(training, report, CURVE, [(30, "clip-1", "Hej.", "Hej")])
    return replace(made, training=training)


def register(material: Material) -> str:
    config = Config(
        package_uri=str(material.package.folder),
        evaluation=material.evaluation,
        gate=material.decision,
        training=material.training,
        model_name="whisper-sv",
        experiment=KEY.experiment,
        pipeline_run_id=KEY.pipeline_run_id,
    )
    return run(config).run_id


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    return MlflowClient(uri, uri)


def test_the_page_the_curves_and_the_examples_are_kept_with_the_run(home: Path, material: Material) -> None:
    run_id = register(material)
    kept = {file.path for file in client(home).list_artifacts(run_id, "training")}
    assert kept == {"training/report.html", "training/curves.jsonl", "training/examples.jsonl"}


def test_a_training_folder_without_page_and_examples_is_recorded_with_what_it_has(home: Path, material: Material) -> None:
    (material.training / "report.html").unlink()
    (material.training / "examples.jsonl").unlink()
    assert [file.path for file in client(home).list_artifacts(register(material), "training")] == ["training/curves.jsonl"]


def test_curves_that_were_followed_live_are_not_doubled_by_the_register_step(home: Path, material: Material, tmp_path: Path) -> None:
    live = open_live(
        tracking_uri="", pipeline_run_id=KEY.pipeline_run_id, experiment=KEY.experiment, spool=tmp_path / "spool" / "live.jsonl"
    )
    assert live is not None
    for step, name, value in CURVE:
        live.log(step, {name: value})
    live.close(60)
    run_id = register(material)
    written = [json.loads(line) for line in (material.training / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    history = client(home).get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(point["step"], point["value"]) for point in written]

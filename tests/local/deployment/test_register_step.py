"""register and reject: what passed becomes a version, what did not is recorded, and nothing goes further unproven."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from deployment_material import Material, make_material, write_evaluation
from mlflow import MlflowClient

from avskrift.errors import EvaluationError, IntegrityError, UsageError
from avskrift.registry import tags
from avskrift.steps.register.step import Config, Result, run
from avskrift.steps.reject.step import Config as RejectConfig
from avskrift.steps.reject.step import run as reject
from avskrift.storage.door import fetch


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    return MlflowClient(uri, uri)


def register(material: Material, **changes: Any) -> Result:
    options: dict[str, Any] = {
        "package_uri": str(material.package.folder),
        "evaluation": material.evaluation,
        "gate": material.decision,
        "training": material.training,
        "model_name": "whisper-sv",
        "experiment": "swedish",
        "pipeline_run_id": "run-1",
    }
    return run(Config(**{**options, **changes}))


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return make_material(tmp_path / "run")


def test_a_registered_run_holds_parameters_figures_curves_tags_and_the_report(home: Path, material: Material) -> None:
    result = register(material)
    recorded = client(home).get_run(result.run_id)
    assert recorded.data.params == {"learning_rate": "2e-05", "epochs": "6", "base_model": "package:whisper-base"}
    figures = recorded.data.metrics
    assert figures["wer"] == 0.2
    assert figures["baseline_wer"] == 0.8
    assert figures["wer_difference_high"] < 0
    assert figures["audio_seconds_per_second"] == 12.5
    assert [point.step for point in client(home).get_metric_history(result.run_id, "train_loss")] == [1, 2, 3, 4, 5]
    assert figures["validation_wer"] == 0.25
    assert recorded.data.tags[tags.GATE] == "passed"
    assert "WER is 20.00 %" in recorded.data.tags[tags.GATE_REASONS]
    assert tags.GATE_OVERRIDE_BY not in recorded.data.tags
    assert recorded.data.tags[tags.DATASET_FINGERPRINT] == "f" * 64
    assert recorded.data.tags[tags.CODE_VERSION] == "0.1.0+abc"
    kept = {file.path for file in client(home).list_artifacts(result.run_id)}
    assert {"decision.json", "evaluation.json", "report.html", "summary.md", "training"} <= kept


def test_a_registered_version_is_the_challenger_and_knows_its_package(home: Path, material: Material) -> None:
    result = register(material)
    assert (result.version, result.uri) == ("1", "models:/whisper-sv/1")
    version = client(home).get_model_version_by_alias("whisper-sv", "challenger")
    assert str(version.version) == "1"
    assert version.run_id == result.run_id
    assert version.tags[tags.PACKAGE_SHA256] == material.sha256
    assert version.tags[tags.GATE] == "passed"
    assert fetch("models:/whisper-sv@challenger") == material.package.folder


def test_registering_again_gives_the_same_version(home: Path, material: Material) -> None:
    assert register(material) == register(material)
    assert len(client(home).search_model_versions("name = 'whisper-sv'")) == 1


def test_a_package_elsewhere_is_registered_by_its_sha256(home: Path, material: Material) -> None:
    result = register(material, package_uri="s3://bucket/package", package_sha256=material.sha256)
    assert client(home).get_model_version("whisper-sv", result.version).source == "s3://bucket/package"


def test_a_package_elsewhere_without_its_sha256_is_refused(home: Path, material: Material) -> None:
    with pytest.raises(UsageError, match="give its package_sha256"):
        register(material, package_uri="s3://bucket/package")


def test_a_package_that_was_not_measured_is_refused(home: Path, material: Material) -> None:
    write_evaluation(material.evaluation, "a" * 64)
    with pytest.raises(UsageError, match="the evaluation measured the package aaaa"):
        register(material)
    assert_nothing_registered(home)


def test_a_decision_about_another_package_is_refused(home: Path, material: Material, tmp_path: Path) -> None:
    other = make_material(tmp_path / "other", weights=b"other weights")
    with pytest.raises(UsageError, match="the gate's decision is not about the package"):
        register(material, gate=other.decision)
    assert_nothing_registered(home)


def test_a_package_that_the_gate_rejected_is_refused_with_the_reasons(home: Path, tmp_path: Path) -> None:
    material = make_material(tmp_path / "bad", wer=0.6)
    with pytest.raises(UsageError, match=r"did not pass this package \(the candidate's WER is 60\.00 %, .* at most 30\.00 %\)"):
        register(material)
    assert_nothing_registered(home)


def test_a_decision_that_was_edited_by_hand_is_refused(home: Path, tmp_path: Path) -> None:
    material = make_material(tmp_path / "bad", wer=0.6)
    decision = material.decision / "decision.json"
    decision.write_text(decision.read_text(encoding="utf-8").replace('"passed": false', '"passed": true'), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"decision\.json"):
        register(material)
    assert_nothing_registered(home)


def test_an_evaluation_that_was_edited_by_hand_is_refused(home: Path, material: Material) -> None:
    evaluation = material.evaluation / "evaluation.json"
    evaluation.write_text(evaluation.read_text(encoding="utf-8").replace('"low": 0.18', '"low": 0.19'), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"evaluation\.json"):
        register(material)
    assert_nothing_registered(home)


def test_a_decision_about_another_evaluation_of_the_package_is_refused(home: Path, material: Material) -> None:
    write_evaluation(material.evaluation, material.sha256, wer=0.3)
    with pytest.raises(UsageError, match="about another evaluation of this package; run the gate on this one"):
        register(material)
    assert_nothing_registered(home)


def test_an_override_is_registered_and_stands_on_the_run_and_on_the_version(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    material = make_material(tmp_path / "bad", wer=0.6, override="release-manager")
    caplog.clear()
    result = register(material)
    for labels in (client(home).get_run(result.run_id).data.tags, client(home).get_model_version("whisper-sv", "1").tags):
        assert labels[tags.GATE] == "passed"
        assert labels[tags.GATE_OVERRIDE_BY] == labels[tags.GATE_OVERRIDE_REASON] == "release-manager"
        assert labels[tags.GATE_REASONS].startswith("overridden by release-manager: release-manager\nthe candidate's WER is 60.00 %")
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING and record.name.startswith("avskrift")]
    assert warned.getMessage() == "model.registered_by_override"
    assert warned.__dict__["fields"] == {"by": "release-manager", "reason": "release-manager"}


def test_an_override_is_not_recorded_as_rejected(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the gate passed this package"):
        reject(rejected(make_material(tmp_path / "bad", wer=0.6, override="release-manager")))


def test_a_package_whose_weights_were_changed_after_it_was_measured_is_refused(home: Path, material: Material) -> None:
    (material.package.folder / "ct2" / "model.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(IntegrityError, match=r"ct2/model\.bin has sha256"):
        register(material)
    assert_nothing_registered(home)


def test_a_package_that_is_not_the_one_named_is_refused(home: Path, material: Material) -> None:
    with pytest.raises(UsageError, match="give the package that was exported"):
        register(material, package_sha256="c" * 64)


def test_one_pipeline_run_cannot_register_a_second_package(home: Path, material: Material, tmp_path: Path) -> None:
    register(material)
    other = make_material(tmp_path / "other", weights=b"other weights")
    with pytest.raises(UsageError, match="holds another package"):
        register(other)


def test_without_a_decision_nothing_is_registered(home: Path, material: Material) -> None:
    shutil.rmtree(material.decision)
    with pytest.raises(EvaluationError, match=r"no decision\.json"):
        register(material)
    assert_nothing_registered(home)


def test_a_package_without_a_training_report_is_registered_without_curves(home: Path, material: Material) -> None:
    result = register(material, training=None)
    assert client(home).get_run(result.run_id).data.params == {}


@pytest.mark.parametrize("content", ["", "[]", '{"parameters": 3}', "{"])
def test_a_training_report_that_cannot_be_read_is_named(home: Path, material: Material, content: str) -> None:
    (material.training / "training.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"training\.json: not a training report"):
        register(material)


def test_a_curve_that_was_cut_short_is_named_with_its_line(home: Path, material: Material) -> None:
    with (material.training / "curves.jsonl").open("a", encoding="utf-8") as curves:
        curves.write('{"step": 6, "na')
    with pytest.raises(UsageError, match=r"curves\.jsonl: line 7 is no point of a curve"):
        register(material)
    assert_nothing_registered(home)


def test_a_rejected_run_is_recorded_with_the_reasons_and_has_no_version(home: Path, tmp_path: Path) -> None:
    material = make_material(tmp_path / "bad", wer=0.6)
    result = reject(rejected(material))
    recorded = client(home).get_run(result.run_id)
    assert recorded.data.tags[tags.GATE] == "rejected"
    assert "at most 30.00 %" in recorded.data.tags[tags.GATE_REASONS]
    assert recorded.data.metrics["wer"] == 0.6
    assert recorded.data.params["epochs"] == "6"
    (reason,) = result.reasons
    assert reason.startswith("the candidate's WER is 60.00 %, interval 58.00 % to 62.00 %")
    assert_nothing_registered(home)


def test_what_the_gate_passed_is_not_recorded_as_rejected(home: Path, material: Material) -> None:
    with pytest.raises(UsageError, match="the gate passed this package"):
        reject(rejected(material))


def rejected(material: Material) -> RejectConfig:
    return RejectConfig(
        package_uri=str(material.package.folder),
        evaluation=str(material.evaluation),
        gate=str(material.decision),
        training=str(material.training),
        experiment="swedish",
        pipeline_run_id="run-1",
    )


def assert_nothing_registered(home: Path) -> None:
    assert client(home).search_model_versions() == []

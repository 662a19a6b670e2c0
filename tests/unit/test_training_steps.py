"""fine_tune and export as steps: what they take, what they leave, and what they leave alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ctranslate2
import pyarrow.parquet as pq
import pytest
import small_training
import torch

from avskrift.corpus.dataset import DESCRIPTION_FILE, SPLITS, open_dataset
from avskrift.errors import DatasetError, LanguageError, ModelUnavailableError, StorageError, TrainingError, UsageError
from avskrift.steps.export import step as exporting
from avskrift.steps.fine_tune import step as fine_tuning
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import home
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult
from avskrift.training.meter import Speed
from avskrift.training.report import CURVES_FILE, EXAMPLES_FILE, REPORT_FILE, TRAINING_FILE, read_report
from avskrift.whisper.package import open_package

_threads_as_before = small_training.threads_as_before

ONE_STEP = TrainingConfig(max_steps=1, batch_seconds=6, learning_rate=1e-3, device="cpu", threads=1)
DEAD = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def english(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips a split of the tiny dataset, said to be English."""
    folder = Path(shutil.copytree(tiny_dataset, tmp_path_factory.mktemp("english") / "dataset"))
    for split in SPLITS:
        for shard in folder.glob(f"{split}-*.parquet"):
            pq.write_table(pq.read_table(shard).slice(0, 2), shard)
    _describe(folder, language="en")
    return folder


@pytest.fixture(scope="module")
def fine_tuned(tiny_whisper: Path, english: Path, tmp_path_factory: pytest.TempPathFactory) -> fine_tuning.Config:
    folder = tmp_path_factory.mktemp("fine-tuned")
    config = fine_tuning.Config(
        dataset=english,
        base_model=str(tiny_whisper),
        out=folder / "model",
        report=folder / "model-training",
        checkpoints=folder / "checkpoints",
        training=replace(ONE_STEP, language="sv"),
    )
    fine_tuning.run(config)
    return config


def test_the_language_is_the_datasets(fine_tuned: fine_tuning.Config) -> None:
    report = read_report(Path(fine_tuned.report))
    assert report.language == "en"
    assert report.parameters["language"] == "en"


def test_the_report_says_what_was_trained_from_what_and_how(fine_tuned: fine_tuning.Config, tiny_whisper: Path, english: Path) -> None:
    report = read_report(Path(fine_tuned.report))
    assert report.base_model == str(tiny_whisper)
    assert report.base_model_sha256 == manifest_digest(digest_folder(tiny_whisper))
    assert report.dataset_fingerprint == open_dataset(english).description.fingerprint
    assert report.parameters | {"max_steps": 1, "learning_rate": 1e-3, "base_model": str(tiny_whisper)} == report.parameters
    assert (report.result["steps"], report.result["epochs"], report.result["best_step"]) == (1, 1, 1)
    assert "curve" not in report.result
    points = [json.loads(line) for line in (Path(fine_tuned.report) / CURVES_FILE).read_text(encoding="utf-8").splitlines()]
    assert [point["name"] for point in points] == ["train_loss", "learning_rate", "validation_wer"]


def test_the_report_has_every_option_and_what_was_heard(fine_tuned: fine_tuning.Config, english: Path) -> None:
    folder = Path(fine_tuned.report)
    assert {field.name for field in fields(TrainingConfig)} <= read_report(folder).parameters.keys()
    heard = [json.loads(line) for line in (folder / EXAMPLES_FILE).read_text(encoding="utf-8").splitlines()]
    said = {clip.clip_id: clip.text for clip in open_dataset(english).clips("validation")}
    assert {example["clip_id"]: example["said"] for example in heard} == said


def test_what_a_pipeline_shows_is_finite_and_its_page_is_the_report(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    curve = ((1, "train_loss", 3.0), (1, "learning_rate", 0.1), (1, "validation_wer", 0.5), (2, "train_loss", 2.0))
    counts: dict[str, Any] = {"steps": 2, "epochs": 1, "best_step": 1, "train_clips": 2, "validation_clips": 2, "processes": 1}
    training = TrainingResult(
        **counts, best_wer=0.5, learning_rate=0.1, batch_seconds=6.0, compiled="off", speed=Speed(teraflops=float("nan")), curve=curve
    )
    result = fine_tuning.Result(model=Path(fine_tuned.out), report=Path(fine_tuned.report), training=training)
    figures = result.figures()
    assert (figures["validation_wer"], figures["train_loss"], figures["steps"]) == (0.5, 2.0, 2.0)
    assert "teraflops" not in figures
    assert "clips_per_second" in figures
    assert "train_loss" not in fine_tuning.Result(model=result.model, report=result.report, training=replace(training, curve=())).figures()

    result.copy_page(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (Path(fine_tuned.report) / REPORT_FILE).read_bytes()


def test_when_it_is_done_nothing_is_left_but_model_and_report(fine_tuned: fine_tuning.Config) -> None:
    folder = Path(fine_tuned.out).parent
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "model", "model-training"]
    assert list((folder / "checkpoints").iterdir()) == []


def test_an_older_result_is_replaced_and_what_dead_runs_left_half_written_is_swept(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    out, report = tmp_path / "model", tmp_path / "story" / "training"
    shutil.copytree(fine_tuned.out, out)
    (out / "of-the-older.txt").write_text("", encoding="utf-8")
    for path in (out, report):
        (path.parent / f".{path.name}.tmp-{DEAD}-0123abcd").mkdir(parents=True)
    fine_tuning.run(replace(fine_tuned, out=str(out), report=str(report), checkpoints=None))
    assert not (out / "of-the-older.txt").exists()
    assert [path.name for path in tmp_path.rglob(".*.tmp-*")] == []
    assert (report / TRAINING_FILE).is_file()
    assert list((home() / "checkpoints").iterdir()) == [], "by default checkpoints go to the state folder"


@pytest.mark.parametrize(("model", "report"), [("m", "m"), ("m", "m/report"), ("r/model", "r"), ("m", "x/../m")])
def test_a_model_and_its_report_that_would_overwrite_each_other_are_refused(
    fine_tuned: fine_tuning.Config, tmp_path: Path, model: str, report: str
) -> None:
    with pytest.raises(UsageError, match="would overwrite each other; name two folders"):
        fine_tuning.run(replace(fine_tuned, out=tmp_path / model, report=tmp_path / report))
    assert not (tmp_path / model).exists()


def test_checkpoints_that_could_not_be_kept_are_told_before_anything_is_read(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("no folder")
    config = replace(fine_tuned, dataset=tmp_path / "not there", out=tmp_path / "model", report=tmp_path / "report")
    with pytest.raises(
        StorageError, match=r"checkpoints cannot be kept in .*volume/checkpoints \(Not a directory, as user \d+\); name a folder"
    ):
        fine_tuning.run(replace(config, checkpoints=tmp_path / "volume" / "checkpoints"))


@pytest.mark.parametrize("taken", ["out", "report"])
def test_a_folder_of_somebody_elses_files_is_never_replaced(fine_tuned: fine_tuning.Config, tmp_path: Path, taken: str) -> None:
    config = replace(fine_tuned, out=tmp_path / "out", report=tmp_path / "report")
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(StorageError, match=f"{taken} holds files"):
        fine_tuning.run(config)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == [f"{taken}/thesis.txt"]


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"base_model": "./no-such-folder"}, ModelUnavailableError, "no such folder"),
        ({"base_model": "package:whisper-enormous"}, ModelUnavailableError, "package:whisper-base"),
        ({"dataset": "no-such-dataset"}, DatasetError, "not a dataset folder|there is no such folder"),
    ],
)
def test_what_cannot_be_had_is_said_and_nothing_half_written(
    fine_tuned: fine_tuning.Config, tmp_path: Path, changed: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        fine_tuning.run(replace(fine_tuned, out=tmp_path / "model", report=tmp_path / "report", **changed))
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_in_a_language_that_whisper_does_not_know_is_refused(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(fine_tuned.dataset, tmp_path / "dataset"))
    _describe(dataset, language="tlh")
    with pytest.raises(LanguageError):
        fine_tuning.run(replace(fine_tuned, dataset=dataset, out=tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_fine_tune_needs_nothing_that_the_train_image_does_not_have() -> None:
    """Of the engine that serves, of registry, cluster and KFP, it must import nothing."""
    absent = ["ctranslate2", "faster_whisper", "kserve", "fastapi", "mlflow", "kubernetes", "kfp", "boto3", "typer", "espeakng_loader"]
    script = f"import sys; sys.modules.update(dict.fromkeys({absent})); import avskrift.steps.fine_tune.step"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_export_makes_a_package_of_what_fine_tune_wrote(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    result = exporting.run(exporting.Config(model=str(fine_tuned.out), training=str(fine_tuned.report), out=str(tmp_path / "package")))
    package = open_package(tmp_path / "package")
    package.verify()
    assert package.description.sha256 == result.sha256
    assert package.description.languages == ("en",)
    assert package.description.encoder_context.policy == "variable"
    report = read_report(Path(fine_tuned.report))
    assert package.description.base_model_sha256 == report.base_model_sha256
    assert package.description.dataset_fingerprint == report.dataset_fingerprint
    assert package.description.training == report.parameters
    assert (package.transformers / "model.safetensors").read_bytes() == (Path(fine_tuned.out) / "model.safetensors").read_bytes()
    assert ctranslate2.models.Whisper(str(package.ctranslate2)).is_multilingual
    assert (package.folder / "README.md").is_file()


def test_every_file_of_a_package_may_be_read_by_the_user_who_serves_it(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        config = replace(fine_tuned, out=tmp_path / "model", report=tmp_path / "report")
        fine_tuning.run(config)
        exporting.run(exporting.Config(model=config.out, training=config.report, out=tmp_path / "package"))
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert [str(path) for path in files if path.stat().st_mode & 0o044 != 0o044] == []


def test_export_sweeps_what_a_killed_export_left(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    (tmp_path / f".package.tmp-{DEAD}-0123abcd").mkdir()
    exporting.run(exporting.Config(model=fine_tuned.out, training=fine_tuned.report, out=tmp_path / "package"))
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_export_refuses_weights_that_are_not_safetensors_and_writes_nothing(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    model = Path(shutil.copytree(fine_tuned.out, tmp_path / "model"))
    (model / "model.safetensors").unlink()
    torch.save({}, model / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match="pickled"):
        exporting.run(exporting.Config(model=model, training=fine_tuned.report, out=tmp_path / "package"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_export_without_a_training_report_is_refused(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a training report"):
        exporting.run(exporting.Config(model=fine_tuned.out, training=tmp_path, out=tmp_path / "package"))
    assert list(tmp_path.iterdir()) == []


def test_export_never_replaces_somebody_elses_files(fine_tuned: fine_tuning.Config, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(StorageError, match="holds files"):
        exporting.run(exporting.Config(model=fine_tuned.out, training=fine_tuned.report, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def _describe(dataset: Path, *, language: str) -> None:
    path = dataset / DESCRIPTION_FILE
    described = json.loads(path.read_text(encoding="utf-8")) | {"language": language}
    for split, summary in described["splits"].items():
        summary["clips"] = sum(pq.read_metadata(shard).num_rows for shard in dataset.glob(f"{split}-*.parquet"))
    path.write_text(json.dumps(described), encoding="utf-8")

"""What fine_tune tells the later steps comes through whole, or is refused."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from avskrift.errors import TrainingError
from avskrift.training.report import CURVES_FILE, TRAINING_FILE, TrainingReport, read_report, write_report

REPORT = TrainingReport(
    base_model="package:whisper-base",
    base_model_sha256="ab" * 32,
    dataset_fingerprint="cd" * 32,
    language="sv",
    parameters={"epochs": 3, "learning_rate": 2.5e-5, "language": "sv"},
    result={"best_wer": 0.25, "steps": 12},
)


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_report(tmp_path / "training", REPORT, [(1, "train_loss", 1 / 3), (2, "validation_wer", 0.5)])
    assert read_report(tmp_path / "training") == REPORT
    lines = (tmp_path / "training" / CURVES_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "name": "train_loss", "value": 1 / 3},
        {"step": 2, "name": "validation_wer", "value": 0.5},
    ]


def test_a_second_report_replaces_the_first_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "training", REPORT, [(1, "train_loss", 3.0)])
    write_report(tmp_path / "training", replace(REPORT, language="en"), [])
    assert read_report(tmp_path / "training").language == "en"
    assert (tmp_path / "training" / CURVES_FILE).read_text(encoding="utf-8") == ""


def test_a_figure_that_is_not_finite_leaves_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path / "training", replace(REPORT, result={"best_wer": math.nan}), [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        json.dumps({**asdict(REPORT), "unknown": 1}).encode(),
        json.dumps({name: value for name, value in asdict(REPORT).items() if name != "language"}).encode(),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TRAINING_FILE).write_bytes(content)
    with pytest.raises(TrainingError, match=f"{TRAINING_FILE}: not a training report"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("language", 5), ("base_model", None), ("parameters", None), ("result", []), ("parameters", "x")]
)
def test_a_field_of_the_wrong_type_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / TRAINING_FILE).write_text(json.dumps({**asdict(REPORT), name: value}), encoding="utf-8")
    with pytest.raises(TrainingError, match="not a training report"):
        read_report(tmp_path)


def test_a_missing_report_is_refused_with_the_folder_to_give(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="give the folder that fine_tune wrote"):
        read_report(tmp_path / "nowhere")

"""What fine_tune tells the later steps comes through whole, or is refused; its page says the same to people."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from html_page import Page

from avskrift.errors import TrainingError
from avskrift.training.report import (
    CURVES_FILE,
    EXAMPLES_FILE,
    REPORT_FILE,
    TRAINING_FILE,
    CurvePoint,
    Example,
    TrainingReport,
    read_report,
    render_report,
    write_report,
)

REPORT = TrainingReport(
    base_model="package:whisper-base",
    base_model_sha256="ab" * 32,
    dataset_fingerprint="cd" * 32,
    language="sv",
    parameters={"epochs": 3, "learning_rate": 2.5e-5, "language": "sv"},
    result={"best_wer": 0.25, "steps": 12},
)
CURVE: list[CurvePoint] = [
    *((step, "train_loss", 2 / step) for step in range(1, 101)),
    *((step, "learning_rate", 2.5e-5) for step in range(1, 101)),
    (50, "validation_wer", 0.5),
    (75, "validation_wer", 0.25),
    (100, "validation_wer", 0.3),
]
EXAMPLES: list[Example] = [
    (50, "clip-1", "Hej på dig.", "Hej på"),
    (50, "clip-2", "God natt.", "God natt."),
    (75, "clip-1", "Hej på dig.", "Hej på dig."),
    (75, "clip-2", "God natt.", "God natt."),
    (100, "clip-1", "Hej på dig.", "Hej på dig."),
    (100, "clip-2", "God natt.", "Godnatt."),
]
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'


def page(curve: list[CurvePoint] = CURVE, examples: list[Example] = EXAMPLES, **changes: Any) -> Page:
    return Page(render_report(replace(REPORT, **changes), curve, examples))


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
    with pytest.raises(TrainingError, match="give the report's folder that fine_tune wrote"):
        read_report(tmp_path / "nowhere")


def test_examples_are_kept_one_a_line_and_the_page_lies_beside_them(tmp_path: Path) -> None:
    write_report(tmp_path / "training", REPORT, CURVE, EXAMPLES)
    lines = (tmp_path / "training" / EXAMPLES_FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"step": 50, "clip_id": "clip-1", "said": "Hej på dig.", "heard": "Hej på"}
    assert len(lines) == len(EXAMPLES)
    assert (tmp_path / "training" / REPORT_FILE).read_text(encoding="utf-8") == render_report(REPORT, CURVE, EXAMPLES)


def test_the_page_has_no_scripts_fetches_nothing_and_forbids_both() -> None:
    document = render_report(REPORT, CURVE, EXAMPLES)
    read = Page(document)
    assert not read.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base"}
    assert not {name for name in read.attributes if name.startswith("on") or name in ("src", "href", "style", "srcdoc")}
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in document
    assert "url(" not in document


def test_the_page_says_how_validation_wer_fell_and_which_model_was_kept() -> None:
    read = page()
    assert "fell from 50.0 % at step 50 to 25.0 % at step 75, and the model of that step was kept" in read.text
    assert read.tables["Validation WER, %"] == [["Step", "WER"], ["50", "50.0 %"], ["75", "25.0 %"], ["100", "30.0 %"]]


def test_a_training_whose_first_validation_was_its_best_says_so() -> None:
    assert (
        "The first validation, at step 50, had the lowest WER: 50.0 %"
        in page([(50, "validation_wer", 0.5), (100, "validation_wer", 0.6)]).text
    )


def test_what_was_heard_is_shown_over_time_and_the_same_words_once() -> None:
    assert page().tables["What the model heard"] == [
        ["Step", "Heard"],
        ["50", "Hej på"],
        ["75 to 100", "Hej på dig."],
        ["Step", "Heard"],
        ["50 to 75", "God natt."],
        ["100", "Godnatt."],
    ]


def test_configuration_and_results_are_on_the_page_under_their_own_names() -> None:
    read = page(result={"steps": 1200, "clips_per_second": 812.34, "compiled": True, "kept": None, "gpus": ["H100"]})
    for shown in ("learning_rate", "2.5e-05", "1,200", "812.3", "Clips a second", "true", "null", '["H100"]'):
        assert shown in read.text


@pytest.mark.parametrize("field", ["base_model", "base_model_sha256", "dataset_fingerprint", "language"])
def test_every_string_of_the_report_is_escaped(field: str) -> None:
    assert not page(**{field: HOSTILE}).tags & {"script", "img"}


def test_transcripts_names_and_values_are_escaped() -> None:
    read = page(
        [*CURVE, (1, HOSTILE, 1.0)],
        [(50, HOSTILE, HOSTILE, HOSTILE)],
        parameters={HOSTILE: HOSTILE},
        result={HOSTILE: [HOSTILE]},
    )
    assert not read.tags & {"script", "img"}
    assert read.tables["What the model heard"][1] == ["50", HOSTILE]
    assert read.text.count(HOSTILE) >= 6


def test_credentials_in_a_uri_are_not_shown() -> None:
    read = page(base_model="https://anna:hunter2@host/model", parameters={"base_model": "https://anna:hunter2@host/model"})
    assert "hunter2" not in read.text


def test_a_training_without_curves_and_examples_has_a_page_all_the_same() -> None:
    assert "It was never validated." in page([], []).text


def test_a_curve_that_is_not_finite_is_drawn_where_it_is() -> None:
    read = page([(1, "train_loss", 2.0), (2, "train_loss", math.nan), (3, "train_loss", math.inf), (4, "train_loss", 1.0)])
    drawn = [attributes["points"] or "" for tag, attributes in read.elements if tag == "polyline"]
    assert [len(points.split()) for points in drawn[:2]] == [2, 2]


def test_other_curves_get_charts_of_their_own() -> None:
    read = page([*CURVE, (10, "system/gpu_memory_gb", 40.0), (20, "system/gpu_memory_gb", 45.0)])
    labels = [attributes.get("aria-label") for tag, attributes in read.elements if tag == "svg"]
    assert "system/gpu_memory_gb: 40 at step 10, 45 at step 20" in labels

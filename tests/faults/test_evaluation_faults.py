import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from avskrift.errors import DiskFullError, EvaluationError, StorageError
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.folder import write_evaluation
from avskrift.evaluation.result import Estimate, read_evaluation

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
EVALUATION, CLIPS = read_evaluation(GOLDEN), read_clip_results(GOLDEN)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, -0.1])
def test_an_evaluation_with_a_figure_that_cannot_be_is_not_written(tmp_path: Path, figure: float) -> None:
    wer = Estimate(value=figure, low=figure, high=figure)
    evaluation = replace(EVALUATION, candidate=replace(EVALUATION.candidate, wer=wer))
    with pytest.raises(EvaluationError, match=r"candidate\.wer"):
        write_evaluation(tmp_path / "out", evaluation, CLIPS)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_result_that_is_no_json_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="JSON"):
        write_evaluation(tmp_path / "out", EVALUATION, [replace(CLIPS[0], candidate_wer=math.nan)])
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_unicode_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="JSON"):
        write_evaluation(tmp_path / "out", EVALUATION, [replace(CLIPS[0], candidate="half a letter \ud83d")])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_evaluation_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_evaluation(tmp_path / "out", EVALUATION, CLIPS)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        write_evaluation(tmp_path / "out", replace(EVALUATION, language="en"), CLIPS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert read_evaluation(tmp_path / "out").language == "sv"


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="file"):
        write_evaluation(tmp_path / "file" / "out", EVALUATION, CLIPS)


@pytest.mark.parametrize("content", ["{", "[]\n", '{"clip_id": "c01"}\n', "null\n"])
def test_clip_results_that_cannot_be_read_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "clips.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"clips\.jsonl"):
        read_clip_results(tmp_path)


def test_missing_clip_results_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="avskrift evaluate"):
        read_clip_results(tmp_path)

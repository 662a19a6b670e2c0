import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from evaluations import changed, clip_results, evaluation

from avskrift.errors import DiskFullError, EvaluationError, IntegrityError, StorageError
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.folder import write_evaluation
from avskrift.evaluation.result_file import read_evaluation
from avskrift.whisper.package import EncoderContext, PackageDescription

EVALUATION, CLIPS = evaluation(), clip_results()
DESCRIPTION = PackageDescription(
    base_model="base", base_model_sha256="0" * 64, languages=("sv",), encoder_context=EncoderContext(), files={}
)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, -0.1])
@pytest.mark.parametrize(
    "place", ["candidate.rates.raw.wer.value", "baseline.speed.latency_p95_s", "wer_difference.wins", "slices.0.baseline.low"]
)
def test_an_evaluation_with_a_figure_that_cannot_be_is_not_written(tmp_path: Path, place: str, figure: float) -> None:
    with pytest.raises(EvaluationError, match="figures that cannot be right"):
        write_evaluation(tmp_path / "out", changed(EVALUATION, place, figure), CLIPS, DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_result_that_is_no_json_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="JSON"):
        write_evaluation(tmp_path / "out", EVALUATION, [replace(CLIPS[0], candidate_wer=math.nan)], DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_unicode_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="JSON"):
        write_evaluation(tmp_path / "out", EVALUATION, [replace(CLIPS[0], candidate="half a letter \ud83d")], DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_evaluation_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_evaluation(tmp_path / "out", EVALUATION, CLIPS, DESCRIPTION)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        write_evaluation(tmp_path / "out", replace(EVALUATION, language="en"), CLIPS, DESCRIPTION)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert read_evaluation(tmp_path / "out").language == "sv"
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="file"):
        write_evaluation(tmp_path / "file" / "out", EVALUATION, CLIPS, DESCRIPTION)


@pytest.mark.parametrize("content", ["{", "[]\n", '{"clip_id": "c01"}\n', "null\n"])
def test_clip_results_that_cannot_be_read_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "clips.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"clips\.jsonl"):
        read_clip_results(tmp_path)


def test_missing_clip_results_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="avskrift evaluate"):
        read_clip_results(tmp_path)


def test_what_was_written_names_the_clips_that_it_was_counted_from(tmp_path: Path) -> None:
    written = write_evaluation(tmp_path / "out", EVALUATION, CLIPS, DESCRIPTION)
    assert read_evaluation(tmp_path / "out") == written
    assert read_clip_results(tmp_path / "out", sha256=written.clips_sha256) == CLIPS


def test_clip_results_that_were_edited_are_refused(tmp_path: Path) -> None:
    written = write_evaluation(tmp_path / "out", EVALUATION, CLIPS, DESCRIPTION)
    path = tmp_path / "out" / "clips.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"candidate_errors": 2', b'"candidate_errors": 1', 1))
    with pytest.raises(IntegrityError, match=r"clips\.jsonl: not the results that the evaluation was counted from"):
        read_clip_results(tmp_path / "out", sha256=written.clips_sha256)
    assert len(read_clip_results(tmp_path / "out")) == len(CLIPS)


def test_a_figure_that_was_edited_is_refused(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "out", EVALUATION, CLIPS, DESCRIPTION)
    path = tmp_path / "out" / "evaluation.json"
    path.write_bytes(path.read_bytes().replace(b'"looped": 1', b'"looped": 0', 1))
    with pytest.raises(IntegrityError, match="its figures are not those that evaluate wrote"):
        read_evaluation(tmp_path / "out")


def test_texts_with_separators_of_lines_that_are_none_of_json_are_read_back(tmp_path: Path) -> None:
    clips = [replace(CLIPS[0], candidate="en\u2028två\u0085tre\nfyra\r", others=("å",)), *CLIPS[1:]]
    written = write_evaluation(tmp_path / "out", EVALUATION, clips, DESCRIPTION)
    assert read_clip_results(tmp_path / "out", sha256=written.clips_sha256) == clips

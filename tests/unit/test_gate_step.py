import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from evaluations import BASELINE, CANDIDATE, changed, clip_results, evaluation, write_evaluation

from avskrift.errors import StorageError, UsageError
from avskrift.evaluation.clip_audio import write_audio
from avskrift.evaluation.decision_file import read_decision
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report_clips import worst
from avskrift.evaluation.result_file import evaluation_seal
from avskrift.steps.gate.step import Config, Result, run

FILES = ["decision.json", "report.html", "summary.md"]


def decided(tmp_path: Path, **changes: Any) -> Result:
    config: dict[str, Any] = {"evaluation": tmp_path / "evaluation", "package_sha256": CANDIDATE, "out": tmp_path / "decision"}
    return run(Config(**(config | changes)))


def test_a_good_evaluation_passes_and_the_decision_is_on_disk_with_its_pages(tmp_path: Path) -> None:
    written = write_evaluation(tmp_path / "evaluation")
    result = decided(tmp_path)
    assert result.passed
    assert result.verdict == "passed"
    assert result.reasons == result.decision.reasons
    assert read_decision(result.folder) == result.decision
    assert result.decision.evaluation_sha256 == evaluation_seal(written)
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))["sha256"] == evaluation_seal(written)
    assert sorted(file.name for file in result.folder.iterdir()) == FILES
    for page in FILES[1:]:
        assert "Passed" in (result.folder / page).read_text(encoding="utf-8")


def test_the_decisions_report_plays_the_clips_that_evaluate_left(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    clips = clip_results()
    write_audio(tmp_path / "evaluation", clips, {worst(clips)[0].clip_id: b"fLaC and so on"})
    report = (decided(tmp_path).folder / "report.html").read_text(encoding="utf-8")
    assert f'aria-label="Clip {worst(clips)[0].clip_id}" src="data:audio/flac;base64,ZkxhQyBhbmQgc28gb24="' in report


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy": Policy(max_wer=0.05)}, "at most 5.00 %"),
        ({"policy": Policy(minimum_clips=101)}, "at least 101"),
        ({"package_sha256": BASELINE}, BASELINE),
        ({"package_sha256": ""}, "the one to promote has ''"),
    ],
)
def test_a_rejection_is_a_result_with_its_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    write_evaluation(tmp_path / "evaluation")
    result = decided(tmp_path, **change)
    assert result.verdict == "rejected"
    assert len(result.reasons) == 1
    assert reason in result.reasons[0]
    assert read_decision(result.folder) == result.decision
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "Rejected" in report
    assert result.decision.failed[0].name in report


def test_clips_of_another_count_than_the_evaluation_are_rejected(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", clips=clip_results(99))
    assert [rule.name for rule in decided(tmp_path).decision.failed] == ["clips_add_up"]


def test_the_folders_may_be_given_as_text(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    result = decided(tmp_path, evaluation=str(tmp_path / "evaluation"), out=str(tmp_path / "out"))
    assert result.folder == tmp_path / "out"


def test_the_pages_are_copied_to_where_kubeflow_wants_them(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    result = decided(tmp_path)
    result.copy_report(tmp_path / "artifacts" / "report")
    result.copy_summary(str(tmp_path / "artifacts" / "summary"))
    assert (tmp_path / "artifacts" / "report").read_bytes() == (result.folder / "report.html").read_bytes()
    assert (tmp_path / "artifacts" / "summary").read_bytes() == (result.folder / "summary.md").read_bytes()


def test_a_second_decision_replaces_the_first(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    first = decided(tmp_path)
    seen = {name: digest(first.folder / name) for name in FILES}
    second = decided(tmp_path, policy=Policy(max_wer=0.01))
    assert read_decision(tmp_path / "decision").verdict == second.verdict == "rejected"
    assert sorted(file.name for file in second.folder.iterdir()) == FILES
    assert all(digest(second.folder / name) != seen[name] for name in FILES)


def test_another_steps_report_is_never_replaced(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    (tmp_path / "decision").mkdir()
    (tmp_path / "decision" / "report.html").write_text("of a dataset", encoding="utf-8")
    with pytest.raises(StorageError, match=r"decision holds files and no decision\.json"):
        decided(tmp_path)
    assert [file.name for file in (tmp_path / "decision").iterdir()] == ["report.html"]
    assert (tmp_path / "decision" / "report.html").read_text(encoding="utf-8") == "of a dataset"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_override_is_in_the_decision_on_both_pages_and_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_evaluation(tmp_path / "evaluation")
    result = decided(tmp_path, policy=Policy(max_wer=0.01), override_by="release-manager", override_reason="needed today")
    assert result.verdict == "passed"
    assert result.decision.overridden
    assert read_decision(result.folder) == result.decision
    for page in ("report.html", "summary.md"):
        text = (result.folder / page).read_text(encoding="utf-8")
        assert "Overridden" in text
        assert "release-manager" in text
        assert "needed today" in text
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warned.getMessage() == "gate.overridden"
    assert warned.__dict__["fields"] == {"by": "release-manager", "reason": "needed today", "failed": "max_wer"}


@pytest.mark.parametrize("change", [{}, {"package_sha256": BASELINE}], ids=["not needed", "does not reach"])
def test_an_override_without_effect_is_logged_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    write_evaluation(tmp_path / "evaluation")
    without = decided(tmp_path, **change)
    caplog.clear()
    result = decided(tmp_path, **change, override_by="release-manager", override_reason="needed today")
    assert (result.passed, result.reasons) == (without.passed, without.reasons)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == ["gate.override_without_effect"]


def test_without_an_override_nothing_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_evaluation(tmp_path / "evaluation")
    decided(tmp_path)
    decided(tmp_path, policy=Policy(max_wer=0.01))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("override", [{"override_by": "release-manager"}, {"override_reason": "needed today"}])
def test_an_override_without_who_or_why_is_refused_before_anything_is_decided(tmp_path: Path, override: dict[str, str]) -> None:
    write_evaluation(tmp_path / "evaluation")
    with pytest.raises(UsageError, match="override"):
        decided(tmp_path, **override)
    assert not (tmp_path / "decision").exists()


def test_the_policy_decides(tmp_path: Path) -> None:
    worse = changed(evaluation(), "wer_difference.high", 0.001)
    write_evaluation(tmp_path / "evaluation", worse)
    assert not decided(tmp_path).passed
    assert decided(tmp_path, policy=Policy(comparison="not-worse")).passed
    assert decided(tmp_path, policy=Policy(comparison="none")).passed

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import CANDIDATE, changed, clip_results, evaluation, write_evaluation

from avskrift.errors import AvskriftError, DiskFullError, EvaluationError, IntegrityError, StorageError
from avskrift.evaluation.decision_file import read_decision
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result_file import evaluation_as_json
from avskrift.evaluation.sealed import with_seal
from avskrift.steps.gate.step import Config, Result, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation that passes."""
    write_evaluation(tmp_path / "evaluation")
    return tmp_path / "evaluation"


def decided(folder: Path, **changes: Any) -> Result:
    config: dict[str, Any] = {"evaluation": folder, "package_sha256": CANDIDATE, "out": folder.parent / "decision"}
    return run(Config(**(config | changes)))


def refused(folder: Path, error: type[AvskriftError], match: str) -> None:
    """An error, and neither a decision nor a page."""
    with pytest.raises(error, match=match):
        decided(folder)
    left = folder.parent / "decision"
    assert not left.exists() or list(left.iterdir()) == []


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], *, sealed: bool) -> None:
    """The file with something changed by hand, and the seal made anew or not."""
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    if sealed:
        values.pop("sha256")
        values = with_seal(values)
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", '"passed"', '{"sha256": 1}', "[" * 100_000])
def test_an_evaluation_that_cannot_be_read_gives_no_decision_at_all(folder: Path, content: str) -> None:
    (folder / "evaluation.json").write_text(content, encoding="utf-8")
    refused(folder, EvaluationError, r"evaluation\.json: not an evaluation")


@pytest.mark.parametrize("path", ["candidate", "wer_difference.high", "candidate.rates.normalised.wer.value", "clips"])
def test_an_evaluation_that_lacks_a_figure_gives_no_decision_even_if_it_is_sealed(folder: Path, path: str) -> None:
    def lose(values: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for step in above:
            values = values[step]
        del values[last]

    rewritten(folder / "evaluation.json", lose, sealed=True)
    refused(folder, EvaluationError, r"evaluation\.json: not an evaluation .*evaluate the package again")


def test_an_evaluation_with_a_figure_that_nobody_knows_gives_no_decision(folder: Path) -> None:
    rewritten(folder / "evaluation.json", lambda values: values.update(trust_me=True), sealed=True)
    refused(folder, EvaluationError, "unknown fields trust_me")


def test_a_missing_evaluation_says_how_to_make_one(tmp_path: Path) -> None:
    refused(tmp_path / "evaluation", EvaluationError, "avskrift evaluate")


def test_missing_per_clip_results_give_no_decision(folder: Path) -> None:
    (folder / "clips.jsonl").unlink()
    refused(folder, EvaluationError, r"no clips\.jsonl")


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "evaluation.json").write_bytes(b"\xff\xfe\x00")
    refused(folder, EvaluationError, "not an evaluation")


@pytest.mark.parametrize(
    ("path", "value"), [("candidate.rates.normalised.wer.high", 0.01), ("split", "test "), ("wer_difference.wins", 0.999)]
)
def test_a_figure_that_was_edited_by_hand_gives_no_decision(folder: Path, path: str, value: Any) -> None:
    edited = evaluation_as_json(changed(evaluation(), path, value))
    rewritten(folder / "evaluation.json", lambda values: values.update(edited), sealed=False)
    refused(folder, IntegrityError, r"evaluation\.json: its figures are not those that evaluate wrote .*evaluate the package again")


def test_an_evaluation_that_was_only_laid_out_anew_is_the_same(folder: Path) -> None:
    values = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    (folder / "evaluation.json").write_text(json.dumps(values, sort_keys=True), encoding="utf-8")
    assert decided(folder).passed


def test_per_clip_results_that_were_edited_by_hand_give_no_decision(folder: Path) -> None:
    clips = folder / "clips.jsonl"
    clips.write_text(clips.read_text(encoding="utf-8").replace("rött", "vitt", 1), encoding="utf-8")
    refused(folder, IntegrityError, r"clips\.jsonl")


def test_per_clip_results_of_another_evaluation_give_no_decision(folder: Path, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "other", clips=clip_results(99))
    shutil.copyfile(tmp_path / "other" / "clips.jsonl", folder / "clips.jsonl")
    refused(folder, IntegrityError, r"clips\.jsonl")


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf"), None, "0.01"])
def test_what_json_readers_accept_and_arithmetic_does_not_is_rejected_with_the_reason(folder: Path, figure: Any) -> None:
    def spoil(values: dict[str, Any]) -> None:
        values["candidate"]["rates"]["normalised"]["wer"]["high"] = figure

    rewritten(folder / "evaluation.json", spoil, sealed=True)
    result = decided(folder)
    assert result.verdict == "rejected"
    assert [reason for reason in result.reasons if "not a number" in reason]
    json.loads((result.folder / "decision.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert "candidate.rates.normalised.wer" in (result.folder / "report.html").read_text(encoding="utf-8")
    assert (result.folder / "summary.md").is_file()


def test_an_older_passing_decision_does_not_outlive_an_evaluation_that_cannot_be_read(folder: Path) -> None:
    assert decided(folder).passed
    (folder / "evaluation.json").write_text("{", encoding="utf-8")
    refused(folder, EvaluationError, "not an evaluation")
    with pytest.raises(EvaluationError, match="avskrift gate"):
        read_decision(folder.parent / "decision")


def edited_decision(folder: Path, change: Callable[[dict[str, Any]], None], *, sealed: bool) -> Path:
    """The decision of a candidate that was rejected, changed by hand."""
    result = decided(folder, policy=Policy(max_wer=0.01))
    rewritten(result.folder / "decision.json", change, sealed=sealed)
    return result.folder


def pass_all(values: dict[str, Any]) -> None:
    values["passed"] = True
    for rule in values["rules"]:
        rule["passed"] = True


@pytest.mark.parametrize("change", [pass_all, lambda values: values.update(passed=True), lambda values: values.update(reasons=[])])
def test_a_decision_that_was_edited_by_hand_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(IntegrityError, match=r"decision\.json: its figures are not those that the gate wrote .*run the gate again"):
        read_decision(edited_decision(folder, change, sealed=False))


def with_override(values: dict[str, Any]) -> None:
    values["passed"] = True
    values["override"] = {"by": "release-manager", "reason": "why"}
    values["rules"][1]["passed"] = False  # the rule of the package, which nobody goes past


@pytest.mark.parametrize(
    "change",
    [
        *(lambda values, passed=passed: values.update(passed=passed) for passed in (True, "true", 1, None)),
        lambda values: [rule.update(passed="yes") for rule in values["rules"]] and values.update(passed=True),
        lambda values: values.update(passed=True, rules=[]),
        with_override,
    ],
)
def test_a_decision_whose_verdict_is_not_what_its_rules_come_to_is_refused_even_if_it_is_sealed(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(EvaluationError, match=r"decision\.json: its verdict is not what its rules come to; run the gate again"):
        read_decision(edited_decision(folder, change, sealed=True))


@pytest.mark.parametrize(
    "override", [{"by": "", "reason": "why"}, {"by": "release-manager"}, "release-manager", {"by": "release-manager", "reason": 3}]
)
def test_a_decision_with_an_override_of_nobody_is_refused(folder: Path, override: Any) -> None:
    with pytest.raises(EvaluationError, match=r"decision\.json: not a decision"):
        read_decision(edited_decision(folder, lambda values: values.update(passed=True, override=override), sealed=True))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"passed": true}', '{"passed": true, "reasons": [], "rules": [{"name": "max_wer"}]}'])
def test_a_decision_that_cannot_be_read_is_no_decision(tmp_path: Path, content: str) -> None:
    (tmp_path / "decision.json").write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"decision\.json"):
        read_decision(tmp_path)


def test_a_full_disk_leaves_no_decision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(folder, DiskFullError, "no space left")


def test_a_decision_stands_only_where_its_pages_stand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, flushed = os.fsync, []

    def full_at_the_last(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_last)
    with pytest.raises(DiskFullError):
        decided(folder)
    assert sorted(file.name for file in (folder.parent / "decision").iterdir()) == ["report.html", "summary.md"]


def test_a_place_that_is_a_file_is_named(folder: Path) -> None:
    (folder.parent / "decision").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="decision"):
        decided(folder)

"""The evaluation folder as it was written once: its format may grow, but what was written stays readable.

After a meant change, write the golden files anew with ``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/golden/test_evaluation_golden.py``
and look at the difference. ``evaluation.json`` and ``clips.jsonl`` are inputs and are never rewritten.
"""

import os
from pathlib import Path

import pytest

from avskrift.evaluation.clip_results import read_clip_results, write_clip_results
from avskrift.evaluation.decision import Decision, Override
from avskrift.evaluation.decision_file import explained, read_decision, write_decision
from avskrift.evaluation.gate import decide
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_figures import pictures
from avskrift.evaluation.report_markdown import render_markdown
from avskrift.evaluation.result_file import read_evaluation, write_result

GOLDEN = Path(__file__).with_name("evaluation")
EVALUATION = read_evaluation(GOLDEN)
CLIPS = read_clip_results(GOLDEN, sha256=EVALUATION.clips_sha256)
ALLOWED = Policy(max_wer=0.6, max_slice_loss=-1, minimum_clips=5)
WANTING = Policy(max_wer=0.1, minimum_clips=20)
VERDICTS = {
    "passed": (ALLOWED, None),
    "rejected": (WANTING, None),
    "overridden": (
        WANTING,
        Override(by="release manager <releases@example.org>", reason="better for all who call; the eight clips are all that we may use"),
    ),
}


def golden(name: str, text: str) -> str:
    path = GOLDEN / name
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def decision(verdict: str) -> Decision:
    policy, override = VERDICTS[verdict]
    return decide(EVALUATION, policy, package_sha256=EVALUATION.candidate.package_sha256, clips=CLIPS, override=override)


def test_an_evaluation_written_earlier_is_read_and_written_alike(tmp_path: Path) -> None:
    write_result(tmp_path, EVALUATION)
    assert (tmp_path / "evaluation.json").read_bytes() == (GOLDEN / "evaluation.json").read_bytes()


def test_clip_results_written_earlier_are_read_and_written_alike(tmp_path: Path) -> None:
    write_clip_results(tmp_path, CLIPS)
    assert (tmp_path / "clips.jsonl").read_bytes() == (GOLDEN / "clips.jsonl").read_bytes()


def test_the_report_is_the_golden_one() -> None:
    report = render_report(EVALUATION, CLIPS, decision("overridden"))
    assert report == golden("report.html", report)


def test_the_summary_is_the_golden_one() -> None:
    summary = render_markdown(EVALUATION, decision("overridden"))
    assert summary == golden("summary.md", summary)


@pytest.mark.parametrize("name", pictures(EVALUATION))
def test_the_pictures_are_the_golden_ones(name: str) -> None:
    picture = pictures(EVALUATION)[name]
    assert picture == golden(name, picture)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_decision_and_its_explanation_are_the_golden_ones(verdict: str, tmp_path: Path) -> None:
    decided = decision(verdict)
    assert decided.passed is (verdict != "rejected")
    write_decision(tmp_path, decided)
    text = (tmp_path / "decision.json").read_text(encoding="utf-8")
    assert text == golden(f"decision.{verdict}.json", text)
    explanation = explained(decided) + "\n"
    assert explanation == golden(f"decision.{verdict}.txt", explanation)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_decision_written_earlier_is_read_without_loss(tmp_path: Path, verdict: str) -> None:
    (tmp_path / "decision.json").write_bytes((GOLDEN / f"decision.{verdict}.json").read_bytes())
    assert read_decision(tmp_path) == decision(verdict)

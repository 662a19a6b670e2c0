"""The evaluation folder as it was written once: its format may grow, but what was written stays readable.

After a meant change, write the golden files anew with ``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/golden/test_evaluation_golden.py``
and look at the difference. ``evaluation.json`` and ``clips.jsonl`` are inputs and are never rewritten.
"""

import json
import os
from pathlib import Path

import pytest

from avskrift.evaluation.clip_results import read_clip_results, write_clip_results
from avskrift.evaluation.gate import Decision, Policy, decide, decision_as_json, explain, read_decision
from avskrift.evaluation.report import render_report
from avskrift.evaluation.result import evaluation_as_json, read_evaluation

GOLDEN = Path(__file__).with_name("evaluation")
POLICIES = {"passed": Policy(max_wer=0.6, minimum_clips=5), "rejected": Policy(max_wer=0.1, minimum_clips=20)}


def golden(name: str, text: str) -> str:
    path = GOLDEN / name
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def decision(verdict: str) -> Decision:
    evaluation = read_evaluation(GOLDEN)
    return decide(evaluation, POLICIES[verdict], package_sha256=evaluation.candidate.package_sha256)


def test_an_evaluation_written_earlier_is_read_without_loss() -> None:
    assert evaluation_as_json(read_evaluation(GOLDEN)) == json.loads((GOLDEN / "evaluation.json").read_text(encoding="utf-8"))


def test_clip_results_written_earlier_are_read_and_written_alike(tmp_path: Path) -> None:
    write_clip_results(tmp_path, read_clip_results(GOLDEN))
    assert (tmp_path / "clips.jsonl").read_bytes() == (GOLDEN / "clips.jsonl").read_bytes()


def test_the_report_is_the_golden_one() -> None:
    report = render_report(read_evaluation(GOLDEN), read_clip_results(GOLDEN))
    assert report == golden("report.html", report)


@pytest.mark.parametrize("verdict", POLICIES)
def test_the_decision_and_its_explanation_are_the_golden_ones(verdict: str) -> None:
    decided = decision(verdict)
    assert decided.verdict == verdict
    text = json.dumps(decision_as_json(decided), ensure_ascii=False, indent=2) + "\n"
    assert text == golden(f"decision.{verdict}.json", text)
    explanation = explain(decided) + "\n"
    assert explanation == golden(f"decision.{verdict}.txt", explanation)


@pytest.mark.parametrize("verdict", POLICIES)
def test_a_decision_written_earlier_is_read_without_loss(tmp_path: Path, verdict: str) -> None:
    (tmp_path / "decision.json").write_bytes((GOLDEN / f"decision.{verdict}.json").read_bytes())
    assert read_decision(tmp_path) == decision(verdict)

"""The gate's KFP face, run by KFP's own executor in a process of its own."""

import json
from pathlib import Path

import pytest
from evaluations import CANDIDATE, write_evaluation
from kfp import dsl

from avskrift.steps.gate.component import gate


@pytest.mark.parametrize(
    ("max_wer", "override", "verdict"),
    [(0.6, "", "passed"), (0.01, "", "rejected"), (0.01, "release-manager", "passed")],
    ids=["passed", "rejected", "overridden"],
)
def test_a_pipeline_can_branch_on_the_verdict(tmp_path: Path, kfp_root: Path, max_wer: float, override: str, verdict: str) -> None:
    write_evaluation(tmp_path / "evaluation")

    @dsl.component(base_image="python:3.11", packages_to_install=[], install_kfp_package=False)
    def note(branch: str) -> str:
        return branch

    @dsl.pipeline
    def gated(max_wer: float, override: str) -> str:
        found = dsl.importer(artifact_uri=str(tmp_path / "evaluation"), artifact_class=dsl.Artifact)
        decided = gate(evaluation=found.output, package_sha256=CANDIDATE, max_wer=max_wer, override_by=override, override_reason=override)
        with dsl.If(decided.outputs["Output"] == "passed"):
            yes = note(branch="passed")
        with dsl.Else():
            no = note(branch="rejected")
        return dsl.OneOf(yes.output, no.output)

    assert gated(max_wer=max_wer, override=override).output == verdict
    (written,) = kfp_root.rglob("decision.json")
    decision = json.loads(written.read_text(encoding="utf-8"))
    assert decision["passed"] is (verdict == "passed")
    assert bool(decision["override"]) is bool(override)
    (report,), (summary,) = (kfp_root.rglob(name) for name in ("report", "summary"))
    assert report.read_bytes() == (written.parent / "report.html").read_bytes()
    assert summary.read_bytes() == (written.parent / "summary.md").read_bytes()


def test_a_broken_evaluation_stops_the_pipeline_with_neither_verdict(tmp_path: Path, kfp_root: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "evaluation.json").write_text("{", encoding="utf-8")

    @dsl.pipeline
    def gated() -> str:
        found = dsl.importer(artifact_uri=str(tmp_path / "broken"), artifact_class=dsl.Artifact)
        return gate(evaluation=found.output, package_sha256=CANDIDATE).outputs["Output"]

    with pytest.raises(RuntimeError):
        gated()
    assert not list(kfp_root.rglob("decision.json"))

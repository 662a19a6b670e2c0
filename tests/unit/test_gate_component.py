"""The gate's KFP face, run by KFP's own executor in a process of its own."""

import json
from pathlib import Path

import pytest
from kfp import dsl, local

from avskrift.steps.gate.component import gate

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


@pytest.mark.parametrize(("max_wer", "verdict"), [(0.6, "passed"), (0.01, "rejected")])
def test_a_pipeline_can_branch_on_the_verdict(tmp_path: Path, max_wer: float, verdict: str) -> None:
    @dsl.component(base_image="python:3.11", packages_to_install=[], install_kfp_package=False)
    def note(branch: str) -> str:
        return branch

    @dsl.pipeline
    def gated(max_wer: float) -> str:
        found = dsl.importer(artifact_uri=str(GOLDEN), artifact_class=dsl.Artifact)
        decided = gate(evaluation=found.output, package_sha256="c1" * 32, max_wer=max_wer, minimum_clips=5)
        with dsl.If(decided.outputs["Output"] == "passed"):
            yes = note(branch="passed")
        with dsl.Else():
            no = note(branch="rejected")
        return dsl.OneOf(yes.output, no.output)

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    assert gated(max_wer=max_wer).output == verdict
    decision = json.loads(next(tmp_path.rglob("decision.json")).read_text(encoding="utf-8"))
    assert decision["passed"] is (verdict == "passed")


def test_a_broken_evaluation_stops_the_pipeline_with_neither_verdict(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "evaluation.json").write_text("{", encoding="utf-8")

    @dsl.pipeline
    def gated() -> str:
        found = dsl.importer(artifact_uri=str(tmp_path / "broken"), artifact_class=dsl.Artifact)
        return gate(evaluation=found.output, package_sha256="c1" * 32).outputs["Output"]

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with pytest.raises(RuntimeError):
        gated()
    assert not list(tmp_path.rglob("decision.json"))

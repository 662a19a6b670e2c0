"""What MLflow keeps of an evaluation for people to look at: the report with the decision, figures and the table of slices."""

import json
from dataclasses import replace
from pathlib import Path

import evaluations
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from avskrift.evaluation.decision_file import write_decision
from avskrift.evaluation.gate import decide
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_figures import pictures
from avskrift.evaluation.report_markdown import SUMMARY_FILE, render_markdown
from avskrift.evaluation.result import REPORT_FILE, Evaluation
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.registry.record import read_evidence, record, slice_table


class Recorded:
    """An evaluation and its decision, recorded in a run as often as is said."""

    def __init__(self, folder: Path, evaluation: Evaluation, *, times: int = 1) -> None:
        measured, judged = folder / "evaluation", folder / "decision"
        self.evaluation = evaluations.write_evaluation(measured, evaluation)
        (measured / REPORT_FILE).write_text("without a decision", encoding="utf-8")
        clips = evaluations.clip_results()
        self.decision = decide(self.evaluation, Policy(), package_sha256=evaluations.CANDIDATE, clips=clips)
        judged.mkdir()
        write_decision(judged, self.decision)
        (judged / REPORT_FILE).write_text(render_report(self.evaluation, clips, self.decision), encoding="utf-8")
        (judged / SUMMARY_FILE).write_text(render_markdown(self.evaluation, self.decision), encoding="utf-8")
        registry = open_registry()
        self.run_id = registry.open_run(RunKey(pipeline_run_id="a run", experiment="avskrift"))
        evidence = read_evidence(evaluation=measured, decision=judged, training=None)
        for _ in range(times):
            record(registry, self.run_id, evidence, package_uri="a package")
        self.client = MlflowClient(registry.uri)
        self._folder, self._uri = folder / "fetched", registry.uri

    def names(self, below: str = "") -> set[str]:
        return {file.path for file in self.client.list_artifacts(self.run_id, below)}

    def text(self, path: str) -> str:
        fetched = download_artifacts(run_id=self.run_id, artifact_path=path, dst_path=str(self._folder), tracking_uri=self._uri)
        return Path(fetched).read_text(encoding="utf-8")

    def tables(self) -> list[dict[str, str]]:
        tables: list[dict[str, str]] = json.loads(self.client.get_run(self.run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        return tables


@pytest.fixture
def recorded(home: Path, tmp_path: Path) -> Recorded:
    """Recorded twice, as by a step that is retried."""
    return Recorded(tmp_path, evaluations.evaluation(), times=2)


def test_the_report_kept_is_the_one_with_the_decision(recorded: Recorded) -> None:
    assert "Passed" in recorded.text(REPORT_FILE)
    assert recorded.text(SUMMARY_FILE) == render_markdown(recorded.evaluation, recorded.decision)


def test_figures_are_kept_as_pictures(recorded: Recorded) -> None:
    drawn = pictures(recorded.evaluation)
    assert recorded.names("figures") == {f"figures/{name}" for name in drawn}
    assert {name: recorded.text(f"figures/{name}") for name in drawn} == drawn


def test_slices_are_kept_once_as_a_table_that_mlflow_shows(recorded: Recorded) -> None:
    table = json.loads(recorded.text("slices.json"))
    assert recorded.tables() == [{"path": "slices.json", "type": "table"}]
    assert table["columns"][:6] == ["slice", "name", "clips", "speakers", "words", "wer"]
    assert len(table["data"]) == len(recorded.evaluation.slices)
    assert table["data"][1][:8] == ["duration", "2 to 4 s", 25, 4, 250, 0.2, 0.17, 0.23]


def test_a_table_of_another_is_still_shown_as_one(recorded: Recorded) -> None:
    open_registry().log_table(recorded.run_id, {"a": [1], "b": ["x"]}, "another.json")
    assert [table["path"] for table in recorded.tables()] == ["slices.json", "another.json"]
    assert json.loads(recorded.text("another.json")) == {"columns": ["a", "b"], "data": [[1, "x"]]}


def test_a_run_without_slices_or_with_figures_that_cannot_be_right_is_recorded_without_their_pictures(home: Path, tmp_path: Path) -> None:
    assert slice_table(evaluations.evaluation(slices=())) == {}
    wrong = evaluations.changed(evaluations.evaluation(), "slices.0.candidate", replace(evaluations.estimate(0.1, 0.03), high=0.0))
    recorded = Recorded(tmp_path, wrong)
    assert not recorded.decision.passed
    assert recorded.names() >= {REPORT_FILE, SUMMARY_FILE}
    assert not recorded.names() & {"figures", "slices.json"}

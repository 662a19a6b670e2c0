"""prepare's KFP face, run by KFP's own executor in a process of its own."""

import json
from pathlib import Path

import pytest
from kfp import dsl, local

from avskrift.corpus.dataset import open_dataset
from avskrift.steps.prepare.component import prepare


def test_the_component_writes_the_dataset_the_report_and_the_metrics(tmp_path: Path) -> None:
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    task = prepare(source="demo:tiny", max_clips=6)
    dataset = open_dataset(Path(task.outputs["dataset"].path))
    assert sum(summary.clips for summary in dataset.description.splits.values()) == 6
    assert task.outputs["dataset"].metadata["fingerprint"] == dataset.description.fingerprint
    assert Path(task.outputs["report"].path).read_bytes() == (dataset.folder / "report.html").read_bytes()
    assert task.outputs["metrics"].metadata["test_clips"] == dataset.description.splits["test"].clips


def test_a_source_that_is_not_there_fails_the_pipeline_and_leaves_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tmp_path / "records"
    records.mkdir()
    monkeypatch.setenv("AVSKRIFT_STEP_RECORDS", str(records))

    @dsl.pipeline
    def prepared() -> None:
        prepare(source=str(tmp_path / "gone"))

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with pytest.raises(RuntimeError):
        prepared()
    record = json.loads((records / "prepare.json").read_text(encoding="utf-8"))
    assert record["exit_code"] == 10
    assert "there is no folder or file of that name" in record["error"]
    assert not list(tmp_path.rglob("dataset.json"))

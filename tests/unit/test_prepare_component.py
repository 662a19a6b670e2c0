"""prepare's KFP faces, run by KFP's own executor in processes of their own."""

import json
from pathlib import Path

import pytest
from kfp import dsl

from avskrift.corpus.dataset import open_dataset
from avskrift.steps.list_parts.component import list_parts
from avskrift.steps.prepare.component import prepare
from avskrift.steps.prepare.step import Config, run
from avskrift.steps.read_part.component import read_part


@dsl.pipeline
def prepared(source: str, parts: int, max_clips: int = 0) -> None:
    """As in the whole pipeline: parts, read one beside the other, then merged."""
    listed = list_parts(source=source, parts=parts)
    with dsl.ParallelFor(listed.output) as part:
        read = read_part(source=source, part=part, parts=parts, max_clips=max_clips)
    prepare(source=source, parts=dsl.Collected(read.outputs["staged"]))


def found(root: Path, name: str) -> Path:
    (path,) = root.glob(f"**/prepare/{name}")
    return path


@pytest.mark.parametrize("parts", [1, 3])
def test_any_number_of_parts_gives_the_dataset_of_the_command_with_report_card_and_metrics(
    parts: int, tmp_path: Path, kfp_root: Path
) -> None:
    prepared(source="demo:tiny", parts=parts, max_clips=12)
    whole = run(Config(source="demo:tiny", out=tmp_path / "whole", max_clips=12))
    dataset = open_dataset(found(kfp_root, "dataset"))
    assert {path.name: path.read_bytes() for path in dataset.folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.dataset.iterdir()
    }
    assert found(kfp_root, "report").read_bytes() == (dataset.folder / "report.html").read_bytes()
    assert sorted(path.name for path in found(kfp_root, "card").iterdir()) == ["README.md", "dataset.json", "report.html"]
    assert (found(kfp_root, "sample") / "clip.flac").read_bytes()[:4] == b"fLaC"
    (outputs,) = kfp_root.glob("**/prepare/executor_output.json")
    said = json.loads(outputs.read_text(encoding="utf-8"))["artifacts"]
    assert said["dataset"]["artifacts"][0]["metadata"]["fingerprint"] == dataset.description.fingerprint
    assert said["metrics"]["artifacts"][0]["metadata"]["test_clips"] == dataset.description.splits["test"].clips


def test_a_source_that_is_not_there_fails_the_pipeline_and_leaves_no_dataset(
    tmp_path: Path, kfp_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "records"
    records.mkdir()
    monkeypatch.setenv("AVSKRIFT_STEP_RECORDS", str(records))
    with pytest.raises(RuntimeError):
        prepared(source=str(tmp_path / "gone"), parts=1)
    record = json.loads((records / "list_parts.json").read_text(encoding="utf-8"))
    assert record["exit_code"] == 10
    assert "there is no folder or file of that name" in record["error"]
    assert not list(kfp_root.rglob("dataset.json"))

"""finalize: the record is closed with the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.steps.finalize.step import Config, run
from avskrift.storage.atomic import write_json


def close(status: str, error: str = "") -> str:
    return run(Config(pipeline_run_id="run-1", experiment="swedish", status=status, error_message=error)).run_id


def recorded(home: Path, run_id: str) -> tuple[str, dict[str, str]]:
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    found = MlflowClient(uri, uri).get_run(run_id)
    assert found.info.end_time is not None
    return found.info.status, found.data.tags


@pytest.fixture(autouse=True)
def no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVSKRIFT_STEP_RECORDS", raising=False)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("SUCCEEDED", "FINISHED"),
        ("FAILED", "FAILED"),
        ("CANCELLED", "KILLED"),
        ("CANCELED", "KILLED"),
        ("succeeded", "FINISHED"),
        ("", "FAILED"),
        ("SKIPPED", "FAILED"),
        ("something new", "FAILED"),
    ],
)
def test_the_run_is_closed_as_it_ended_and_the_unknown_is_no_success(home: Path, state: str, status: str) -> None:
    run_id = open_registry().open_run(RunKey(pipeline_run_id="run-1", experiment="swedish"))
    assert close(state) == run_id
    assert recorded(home, run_id)[0] == status


def test_a_failure_leaves_its_sentence_without_credentials(home: Path) -> None:
    status, labels = recorded(home, close("FAILED", "prepare: s3://key:secret@host/clips is empty"))
    assert status == "FAILED"
    assert labels[tags.ERROR] == "prepare: s3://[redacted]host/clips is empty"
    assert labels[tags.PIPELINE_STATE] == "FAILED"


def test_a_run_that_failed_before_it_had_a_record_gets_one(home: Path) -> None:
    status, labels = recorded(home, close("FAILED", "the source is empty"))
    assert status == "FAILED"
    assert labels[tags.PIPELINE_RUN_ID] == "run-1"


def test_a_retried_run_that_succeeds_loses_its_error(home: Path) -> None:
    first = close("FAILED", "the store was away")
    assert close("SUCCEEDED", "ignored") == first
    status, labels = recorded(home, first)
    assert (status, labels[tags.ERROR]) == ("FINISHED", "")


def test_a_local_run_is_closed_with_the_failed_steps_own_sentence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "records" / "prepare.json", {"step": "prepare", "exit_code": 0, "error": ""})
    write_json(tmp_path / "records" / "train.json", {"step": "fine_tune", "exit_code": 40, "error": "the loss is not finite"})
    (tmp_path / "records" / "a.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("AVSKRIFT_STEP_RECORDS", str(tmp_path / "records"))
    assert recorded(home, close("FAILED", "Task exit-handler-1 failed."))[1][tags.ERROR] == "fine_tune: the loss is not finite"


def test_finalize_uses_the_state_folder_that_it_is_given(home: Path, tmp_path: Path) -> None:
    (home / "mlflow").rename(tmp_path / "mlflow")
    run_id = run(Config(pipeline_run_id="run-1", experiment="swedish", status="FAILED", home=str(tmp_path))).run_id
    assert recorded(tmp_path, run_id)[0] == "FAILED"
    assert not (home / "mlflow").exists()

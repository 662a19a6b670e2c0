"""What a person is shown of a run on a cluster."""

from __future__ import annotations

import io
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from avskrift.errors import RunFailedError
from avskrift_pipelines.kfp_server import ClusterRun, Task
from avskrift_pipelines.run_progress import RunProgress
from avskrift_pipelines.submission import check_success

_NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def task(name: str, state: str, *, minute: int = 0, seconds: int = 90, error: str = "") -> Task:
    began = _NOON + timedelta(minutes=minute)
    ended = None if state == "RUNNING" else began + timedelta(seconds=seconds)
    return Task(name=name, task_id=f"{name}-{minute}", state=state, started=began, ended=ended, error=error)


def run(*tasks: Task, state: str = "RUNNING", error: str = "") -> ClusterRun:
    return ClusterRun(run_id="1", name="nightly", state=state, tasks=tasks, error=error)


def shown(*runs: ClusterRun, names: Collection[str] = (), terminal: bool = False) -> list[str]:
    said = io.StringIO()
    with RunProgress(Console(file=said, force_terminal=terminal, width=120), names) as progress:
        for one in runs:
            progress.show(one)
    return [line.strip() for line in said.getvalue().splitlines()]


def test_each_change_is_one_line_and_what_has_not_changed_is_none() -> None:
    running, done = task("prepare", "RUNNING"), task("prepare", "SUCCEEDED")
    said = shown(
        run(), run(), run(running), run(running), run(done), run(done, task("fine-tune", "PENDING")), names={"prepare", "fine-tune"}
    )
    assert said == ["nightly: running", "prepare: running", "prepare: succeeded, 1:30", "fine-tune: pending"]


def test_the_tasks_of_a_loop_are_counted() -> None:
    parts = [task("read-part", "SUCCEEDED"), task("read-part", "RUNNING", minute=1), task("read-part", "RUNNING", minute=2)]
    ended = [task("read-part", "SUCCEEDED", minute=minute) for minute in range(3)]
    assert shown(run(*parts), run(*ended), names={"read-part"}) == ["read-part: 2 running, 1 succeeded", "read-part: 3 succeeded, 3:30"]


def test_without_the_pipeline_at_hand_what_kfp_adds_is_left_out() -> None:
    names = (
        "root",
        "root-driver",
        "executor",
        "nightly-x7k2p",
        "exit-handler-1",
        "exit-handler-1-driver",
        "for-loop-2",
        "for-loop-2-driver",
    )
    tasks = [task(name, "RUNNING") for name in (*names, "prepare", "prepare-driver")]
    assert shown(run(*tasks)) == ["prepare: running"]


@pytest.mark.parametrize(("seconds", "says"), [(7, "0:07"), (95, "1:35"), (3 * 3600 + 62, "3:01:02")])
def test_times_are_minutes_and_hours(seconds: int, says: str) -> None:
    assert shown(run(task("prepare", "SUCCEEDED", seconds=seconds)), names={"prepare"}) == [f"prepare: succeeded, {says}"]


def test_a_terminal_is_shown_a_table() -> None:
    said = "\n".join(
        shown(run(task("prepare", "SUCCEEDED"), task("[bold]", "FAILED"), state="FAILED"), names={"prepare", "[bold]"}, terminal=True)
    )
    for word in ("prepare", "succeeded", "1:30", "[bold]", "failed", "nightly"):
        assert word in said


def test_a_failure_is_told_once_by_the_task_that_failed_first() -> None:
    first, after = task("evaluate", "FAILED", error="no clips"), task("exit-handler-1", "FAILED", minute=5, error="no clips")
    with pytest.raises(
        RunFailedError, match=r"^the run nightly ended as failed \(evaluate: no clips\); its steps' logs are at https://kfp"
    ):
        check_success(run(after, first, state="FAILED", error="workflow failed"), "https://kfp")
    with pytest.raises(RunFailedError, match=r"ended as canceled; its"):
        check_success(run(state="CANCELED"), "https://kfp")
    with pytest.raises(RunFailedError, match=r"ended as failed \(workflow failed\)"):
        check_success(run(state="FAILED", error="workflow failed"), "https://kfp")
    check_success(run(state="SUCCEEDED"), "https://kfp")

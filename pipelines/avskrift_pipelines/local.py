"""Runs the pipeline on this machine under ``kfp.local``, each step a process of its own.

A run has a folder ``runs/ID`` in the state folder: ``pipeline/`` (artifacts), ``steps/`` (a record of each step),
``run.log`` (all that the steps and kfp printed) and ``run.json`` (state). One run at a time: they share the endpoint.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from kfp import dsl, local
from kfp.dsl.graph_component import GraphComponent

from avskrift.errors import AvskriftError, BusyError, InterruptedRunError, StepFailedError, error_of
from avskrift.progress import INTERVAL_VARIABLE
from avskrift.steps.boundary import PARENT_VARIABLE, RECORDS_VARIABLE, RUN_ID_VARIABLE, TERMINATION_LOG_VARIABLE
from avskrift.storage.atomic import sweep, write_json
from avskrift.storage.paths import cache, home
from avskrift_pipelines.interruption import Interruption
from avskrift_pipelines.leftovers import put_back
from avskrift_pipelines.memory import PeakMemory
from avskrift_pipelines.narrator import Narrator
from avskrift_pipelines.runs import STATE_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """How one step went; see :mod:`avskrift.steps.boundary`."""

    step: str
    seconds: float
    peak_rss_mb: float
    exit_code: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """A finished run: its folder, the records of its steps by name, wall seconds, and the peak memory of all its processes at once."""

    folder: Path
    steps: dict[str, StepRecord]
    seconds: float
    peak_rss_mb: float

    def artifact(self, task: str, name: str) -> Path | None:
        """Where a task's output artifact lies, or None if the task did not run."""
        found = sorted((self.folder / "pipeline").glob(f"**/{task}/{name}"))
        return found[0] if found else None


def run_locally(pipeline: GraphComponent, parameters: Mapping[str, Any], narrator: Narrator) -> LocalRun:
    """Run ``pipeline`` with ``parameters``, which are those of its form. The run's id is the name of its folder.

    Raises:
        BusyError: another run is under way in the same state folder.
        AvskriftError: of the class and with the message that the failing step left.
        InterruptedRunError: Ctrl-C.
    """
    with _alone(home()):
        _clean_up_after_killed_runs(home() / "runs")
        folder = _new_folder()
        state = {"state": "running", "pid": os.getpid(), "parameters": dict(parameters)}
        write_json(folder / STATE_FILE, state)
        ended = "failed"
        started = time.monotonic()
        try:
            with PeakMemory() as memory, _environment(folder, parameters, narrator), Interruption() as interruption:
                _run(pipeline, folder, parameters, narrator, interruption)
            ended = "succeeded"
        except InterruptedRunError:
            ended = "interrupted"
            raise
        finally:
            write_json(folder / STATE_FILE, state | {"state": ended})
        return LocalRun(folder=folder, steps=_records(folder), seconds=time.monotonic() - started, peak_rss_mb=memory.peak_mb)


def for_this_machine(pipeline: GraphComponent, run_id: str) -> GraphComponent:
    """A copy of ``pipeline`` whose tasks are tried once and know the run as ``run_id``.

    No node goes away here, and a wrong parameter or Ctrl-C would be tried again.
    """
    own = copy.copy(pipeline)
    own.component_spec = copy.deepcopy(pipeline.component_spec)
    specification = own.pipeline_spec
    for component in (specification.root, *specification.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
            for value in task.inputs.parameters.values():
                if value.runtime_value.constant.string_value == dsl.PIPELINE_JOB_ID_PLACEHOLDER:
                    value.runtime_value.constant.string_value = run_id
    return own


def _run(pipeline: GraphComponent, folder: Path, parameters: Mapping[str, Any], narrator: Narrator, interruption: Interruption) -> None:
    # The launcher's own imports are shared: a virtual environment for each task would take 14 s and download the project.
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "pipeline"))
    try:
        with put_back(), narrator.listening(folder / "run.log"):
            for_this_machine(pipeline, folder.name)(**parameters)
    except (RuntimeError, KeyboardInterrupt) as error:
        if interruption.asked:
            raise InterruptedRunError("stopped; run the same command again, training goes on from its last checkpoint") from error
        raise _failure(folder, error) from error


def _failure(folder: Path, error: BaseException) -> AvskriftError:
    """kfp only says that a task failed; the step's record says why."""
    failed = [record for record in _records(folder).values() if record.exit_code and record.step != "finalize"]
    failed = failed or [record for record in _records(folder).values() if record.exit_code]
    log = folder / "run.log"
    if not failed:
        return StepFailedError(f"a step ended without a word (killed, or out of memory?): {_first_line(error)}; its output is in {log}")
    record = failed[0]
    return error_of(record.exit_code, f"{record.step}: {record.error}")


def _records(folder: Path) -> dict[str, StepRecord]:
    ended = sorted((folder / "steps").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    records = [StepRecord(**json.loads(path.read_text(encoding="utf-8"))) for path in ended]
    return {record.step: record for record in records}


@contextlib.contextmanager
def _alone(state_folder: Path) -> Iterator[None]:
    state_folder.mkdir(parents=True, exist_ok=True)
    with (state_folder / "run.lock").open("a+") as lock:
        try:
            # The kernel drops the lock with the process, however it dies: no stale lock to clean up.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another run is under way in {state_folder}; wait for it, or set AVSKRIFT_HOME to another folder") from error
        yield


def _new_folder() -> Path:
    folder = home() / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    (folder / "steps").mkdir(parents=True)
    return folder


def _clean_up_after_killed_runs(runs: Path) -> None:
    """Mark runs whose process is gone, and remove what they had half written."""
    for state_file in runs.glob(f"*/{STATE_FILE}"):
        state = json.loads(state_file.read_text(encoding="utf-8"))
        if state.get("state") != "running" or _is_this_program(int(state.get("pid", 0))):
            continue
        for folder in [path for path in state_file.parent.rglob("*") if path.is_dir()]:
            sweep(folder)
        shutil.rmtree(state_file.parent / "tmp", ignore_errors=True)
        write_json(state_file, state | {"state": "killed"})
    for cached in [path for path in cache().glob("*") if path.is_dir()]:
        sweep(cached)


def _is_this_program(pid: int) -> bool:
    """We hold the lock, so any other living process of that number is a stranger that got it later."""
    return pid == os.getpid() and psutil.pid_exists(pid)


@contextlib.contextmanager
def _environment(folder: Path, parameters: Mapping[str, Any], narrator: Narrator) -> Iterator[None]:
    """What the steps' processes inherit."""
    termination_log = folder / "termination.log"
    termination_log.touch()
    temporary = folder / "tmp"  # so that nothing of a killed run stays in /tmp
    temporary.mkdir()
    inherited = {
        "AVSKRIFT_HOME": str(home()),
        RECORDS_VARIABLE: str(folder / "steps"),
        RUN_ID_VARIABLE: folder.name,
        PARENT_VARIABLE: str(os.getpid()),
        TERMINATION_LOG_VARIABLE: str(termination_log),
        INTERVAL_VARIABLE: str(narrator.interval_seconds),
        "TMPDIR": str(temporary),
        "AVSKRIFT_LOG_FORMAT": "text",
    }
    if parameters.get("tracking_uri"):
        inherited["MLFLOW_TRACKING_URI"] = str(parameters["tracking_uri"])  # for models:/ URIs in steps that get no such parameter
    before = {name: os.environ.get(name) for name in inherited}
    os.environ.update(inherited)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(temporary, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""Runs that are stopped, or must not begin, over real processes."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
from common_voice import Plan, write_release
from mlflow import MlflowClient
from running import avskrift, free_port, processes_of, run_arguments, started, temporaries_in, wait_until

pytestmark = pytest.mark.runs


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Common Voice release with a validated remainder."""
    plan = Plan(train=24, validation=4, test=4, remainder=8)
    return f"commonvoice:{write_release(tmp_path_factory.mktemp('release') / 'cv.tar.gz', plan=plan, tables_first=False).path}"


@pytest.fixture
def home(tmp_path: Path, empty_database: Path) -> Path:
    """A state folder whose MLflow is made already, which takes seconds."""
    folder = tmp_path / "home"
    (folder / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlflow" / "mlflow.db")
    return folder


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_run_over_two_sources_leaves_nothing_behind_and_the_same_command_finishes(
    tiny_whisper: Path, home: Path, tmp_path: Path, signal_number: signal.Signals, release: str
) -> None:
    port, log = free_port(), tmp_path / "first.log"
    # One thread: others that share the cores would make each step wait for its second one.
    settings = ("--batch-seconds", 15, "--training", "threads=1", "--checkpoint-minutes", 0, "--prepare-parts", 2, "--validated-remainder")
    arguments = run_arguments(tiny_whisper, port, *settings, sources=("demo:tiny", f"2*{release}"))
    first = started(home, arguments, log)
    wait_until(lambda: any(home.glob("checkpoints/*/step-*")), what="a checkpoint")
    _signal_group(first, signal_number)
    first.wait(timeout=60)
    wait_until(lambda: processes_of(home) == [], what="all processes of the run gone")
    if signal_number == signal.SIGINT:
        _says_that_it_was_stopped(first, log, home)

    again = avskrift(home, *arguments)
    assert again.returncode == 0, again.stderr
    newest = max(home.glob("runs/*/run.log"))
    assert "checkpoint.resumed" in newest.read_text(encoding="utf-8")
    assert temporaries_in(home) == []
    assert not any(home.glob("checkpoints/*"))
    avskrift(home, "stop")
    assert processes_of(home) == []


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches every process of the group; kill -9 only the one that it names."""
    if number == signal.SIGINT:
        for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            member.send_signal(number)
    else:
        process.send_signal(number)


def _says_that_it_was_stopped(process: subprocess.Popen[bytes], log: Path, home: Path) -> None:
    assert process.returncode == 130
    output = log.read_text(encoding="utf-8")
    assert "avskrift: stopped; run the same command again" in output
    assert "Traceback" not in output
    registry = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = registry.search_runs([registry.get_experiment_by_name("avskrift").experiment_id])
    (run,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert run.info.status in ("FAILED", "KILLED")


def test_a_port_that_somebody_else_holds_is_refused_before_anything_is_done(tiny_whisper: Path, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ended = avskrift(tmp_path / "home", *run_arguments(tiny_whisper, holder.getsockname()[1]))
    assert ended.returncode == 71
    assert "choose another with --port" in ended.stderr
    assert not any((tmp_path / "home").glob("runs/*"))


def test_training_that_fails_is_not_tried_again_on_this_machine(tiny_whisper: Path, home: Path) -> None:
    ended = avskrift(home, *run_arguments(tiny_whisper, free_port(), "--training", "device=cuda:63"))
    assert ended.returncode == 2, ended.stderr
    assert "fine_tune: device is 'cuda:63'" in ended.stderr
    (log,) = home.glob("runs/*/run.log")
    started_steps = [line for line in log.read_text(encoding="utf-8").splitlines() if "step.started" in line and "step=fine_tune" in line]
    assert len(started_steps) == 1


def test_a_second_run_in_the_same_state_folder_is_refused(tiny_whisper: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = started(home, run_arguments(tiny_whisper, free_port()), tmp_path / "first.log")
    try:
        wait_until(lambda: any(home.glob("runs/*/run.json")), what="the first run under way")
        second = avskrift(home, *run_arguments(tiny_whisper, free_port()))
        assert second.returncode == 32
        assert "another run is under way" in second.stderr
    finally:
        first.kill()
        first.wait()
        wait_until(lambda: processes_of(home) == [], what="all processes of the run gone")

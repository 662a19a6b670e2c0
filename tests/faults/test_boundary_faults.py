"""However a step ends, its runner learns how: exit code, one sentence, a record; and a step never outlives its runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from avskrift.errors import AvskriftError, every_error

_PATIENCE_SECONDS = 30.0
_STEP = """
import time
from avskrift import errors
from avskrift.steps.boundary import boundary
with boundary("prepare"):
    {body}
"""
_EVERY_ERROR = """
import os
from avskrift.errors import every_error
from avskrift.steps.boundary import boundary
for error in every_error():
    child = os.fork()
    if not child:
        with boundary("gate"):
            raise error("wer is over the threshold")
    print(error.__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(body: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A step of its own process, with a folder for records and a termination log as Kubernetes mounts it."""
    (folder / "termination-log").touch()
    return subprocess.run(
        [sys.executable, "-c", _STEP.format(body=body)], env=environment(folder, **variables), capture_output=True, text=True, check=False
    )


def environment(folder: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AVSKRIFT_")}
    ours = {"AVSKRIFT_STEP_RECORDS": str(folder / "records"), "AVSKRIFT_TERMINATION_LOG": str(folder / "termination-log")}
    return kept | ours | variables


def record(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "records" / "prepare.json").read_text(encoding="utf-8"))
    return loaded


def test_a_step_that_ends_well_leaves_a_record_and_no_word_in_the_termination_log(tmp_path: Path) -> None:
    ended = run("pass", tmp_path)
    assert ended.returncode == 0
    written = record(tmp_path)
    assert (written["step"], written["exit_code"], written["error"]) == ("prepare", 0, "")
    assert written["seconds"] >= 0
    assert written["peak_rss_mb"] > 1
    assert (tmp_path / "termination-log").read_text() == ""
    assert "step.finished" in ended.stderr


def test_a_failure_is_one_sentence_in_three_places_and_no_traceback(tmp_path: Path) -> None:
    ended = run("raise errors.SourceError('train.tsv is empty; give recordings')", tmp_path)
    assert ended.returncode == 10
    assert ended.stderr.splitlines()[-1] == "avskrift prepare: train.tsv is empty; give recordings"
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "termination-log").read_text() == "avskrift prepare: train.tsv is empty; give recordings"
    written = record(tmp_path)
    assert (written["exit_code"], written["error"]) == (10, "train.tsv is empty; give recordings")


def test_every_error_leaves_with_its_own_exit_code(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _EVERY_ERROR], env=environment(tmp_path), capture_output=True, text=True, check=True)
    codes = dict(line.split() for line in ended.stdout.splitlines())
    ours = [error for error in every_error() if error.__module__ == AvskriftError.__module__]
    assert {name: int(code) for name, code in codes.items()} == {error.__name__: error.exit_code for error in ours}
    assert len(set(codes.values())) == len(codes)
    assert "0" not in codes.values()


def test_a_bug_shows_its_traceback_and_says_that_it_is_one(tmp_path: Path) -> None:
    ended = run("{}['nothing']", tmp_path)
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert ended.stderr.splitlines()[-1] == "avskrift prepare: unexpected KeyError: 'nothing'; this is a bug, see the traceback in the log"
    assert record(tmp_path)["exit_code"] == 1


def test_debug_shows_the_traceback_of_any_failure(tmp_path: Path) -> None:
    ended = run("raise errors.SourceError('empty')", tmp_path, AVSKRIFT_DEBUG="1")
    assert ended.returncode == 10
    assert "Traceback (most recent call last)" in ended.stderr


def test_a_full_disk_is_named_even_where_no_code_expected_it(tmp_path: Path) -> None:
    ended = run("open('/dev/full', 'w').write('x' * 100_000)", tmp_path)
    assert ended.returncode == 31
    assert "no space left on the disk that holds" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("variables", [{"AVSKRIFT_LOG_LEVEL": "loud"}, {"AVSKRIFT_LOG_FORMAT": "xml"}, {"AVSKRIFT_RUNNER_PID": "me"}])
def test_a_setting_that_cannot_be_used_is_one_sentence_too(tmp_path: Path, variables: dict[str, str]) -> None:
    ended = run("print('the body ran')", tmp_path, **variables)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    (name, value), *_ = variables.items()
    assert f"avskrift prepare: {name} is '{value}'; " in ended.stderr
    assert ended.stdout == ""


def test_a_record_that_cannot_be_written_does_not_fail_the_step(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file where the folder should be")
    ended = run("pass", tmp_path)
    assert ended.returncode == 0
    assert "step.record_not_written" in ended.stderr


def test_a_termination_log_is_not_made_where_nobody_mounted_one(tmp_path: Path) -> None:
    ended = run("raise errors.SourceError('empty')", tmp_path, AVSKRIFT_TERMINATION_LOG=str(tmp_path / "none"))
    assert ended.returncode == 10
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_step_with_130_and_clears_up_behind_it(tmp_path: Path, number: signal.Signals) -> None:
    body = f"""from avskrift.storage.atomic import atomic_folder
    from pathlib import Path
    with atomic_folder(Path({str(tmp_path / "out")!r})) as folder:
        (folder / "half").write_text("half")
        print("writing", flush=True)
        time.sleep(600)"""
    with started(body, tmp_path) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)
    assert process.returncode == 130, said.decode()
    assert b"stopped before it was finished; run the same command again" in said
    assert b"Traceback" not in said
    assert record(tmp_path)["exit_code"] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "termination-log"]


def test_a_signal_while_a_failure_is_cleared_up_leaves_nothing_either(tmp_path: Path) -> None:
    body = f"""from avskrift.storage.atomic import atomic_folder
    from pathlib import Path
    with atomic_folder(Path({str(tmp_path / "out")!r})) as folder:
        for number in range(5000):
            (folder / str(number)).touch()
        print("writing", flush=True)
        raise errors.SourceError("empty")"""
    with started(body, tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_PATIENCE_SECONDS)
    assert process.returncode in (10, 130)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "termination-log"]


def test_a_second_signal_does_not_cut_the_record_of_the_first_short(tmp_path: Path) -> None:
    body = """import signal, os
    class Slow(errors.SourceError):
        def __str__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            return "empty"
    raise Slow()"""
    assert run(body, tmp_path).returncode == 10
    assert record(tmp_path)["error"] == "empty"


def test_a_step_goes_with_the_runner_that_was_killed(tmp_path: Path) -> None:
    """The runner is killed with no chance to tell anyone; the step notices within moments."""
    runner_code = f"""
import os, subprocess, sys
step = subprocess.Popen([sys.executable, "-c", {_STEP.format(body="print('running', flush=True); time.sleep(600)")!r}],
                        env=os.environ | {{"AVSKRIFT_RUNNER_PID": str(os.getpid())}}, stdout=subprocess.PIPE)
step.stdout.readline()
print(step.pid, flush=True)
step.wait()
"""
    with subprocess.Popen([sys.executable, "-c", runner_code], env=environment(tmp_path), stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        step = psutil.Process(int(runner.stdout.readline()))
        assert step.is_running()
        runner.kill()
    _, alive = psutil.wait_procs([step], timeout=_PATIENCE_SECONDS)
    assert not alive


def test_a_step_whose_runner_is_gone_before_it_begins_does_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        pass
    ended = run("print('the body ran')", tmp_path, AVSKRIFT_RUNNER_PID=str(gone.pid))
    assert ended.returncode == 130
    assert ended.stdout == ""
    assert "the runner that started this step is gone" in ended.stderr


def started(body: str, folder: Path) -> subprocess.Popen[bytes]:
    """A step that has begun to do its work."""
    (folder / "termination-log").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", _STEP.format(body=body)], env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process

"""Children that die take nothing with them."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest

from avskrift.audio.limited import Children
from avskrift.audio.limited_child import Limits, Note
from avskrift.errors import AudioError, StepFailedError

LIMITS = Limits(memory_bytes=128 << 20, cpu_seconds=1)


def work(task: list[str], note: Note, left_out: Mapping[int, str]) -> list[str]:
    """Does what each step says."""
    done = []
    for step, what in enumerate(task):
        note(step)
        done.append(left_out[step] if step in left_out else _act(what))
    return done


def _act(what: str) -> str:  # noqa: C901  # one branch for each way to die
    if what == "crash":
        ctypes.string_at(0)
    elif what == "leave":
        os._exit(3)
    elif what == "spin":
        while True:
            pass
    elif what == "grow":
        return str(np.ones(1 << 30, dtype=np.uint8).sum())
    elif what == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what.startswith("be killed once, "):
        flag = Path(what.removeprefix("be killed once, "))
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGTERM)
    elif what == "fail":
        raise UnpicklableError
    elif what == "refuse":
        raise AudioError("not audio")
    elif what == "sleep":
        time.sleep(60)
    return f"{what} {os.getpid()}"


class UnpicklableError(Exception):
    def __reduce__(self) -> str:
        return "nothing that pickle knows"


def words(answers: list[str]) -> list[str]:
    return [answer.rsplit(" ", 1)[0] for answer in answers]


def test_every_task_is_answered_once_by_as_many_processes_as_were_asked_for() -> None:
    tasks = [[f"task {number}", "x"] for number in range(20)]
    with Children(work, count=2) as children:
        answers = list(children.run(iter(tasks)))
    assert sorted(task[0] for task, _ in answers) == sorted(task[0] for task in tasks)
    assert all(words(answer) == task for task, answer in answers)
    processes = {answer[0].rsplit(" ", 1)[1] for _, answer in answers}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("crash", r"the decoder crashed on it \(SIG(SEGV|BUS)\)"),
        ("leave", r"ended without an answer \(exit code 3\)"),
        ("spin", "more than 1 s of CPU time"),
        ("be killed", "was killed twice"),
    ],
)
def test_a_step_that_kills_its_process_is_left_out_and_the_others_are_done(what: str, reason: str) -> None:
    with Children(work, count=1, limits=LIMITS) as children:
        ((_, answer),) = children.run([["a", what, "b"]])
    assert [*words(answer[:1]), *words(answer[2:])] == ["a", "b"]
    assert re.search(reason, answer[1])


def test_two_bad_steps_of_one_task_are_both_left_out() -> None:
    with Children(work, count=1, limits=LIMITS) as children:
        ((_, answer),) = children.run([["leave", "a", "be killed"]])
    assert "exit code 3" in answer[0]
    assert words(answer[1:2]) == ["a"]
    assert "killed" in answer[2]


def test_memory_over_the_limit_is_refused_in_the_child_not_taken_from_the_machine() -> None:
    with Children(work, count=1, limits=LIMITS) as children, pytest.raises(MemoryError):
        list(children.run([["grow"]]))


def test_what_the_function_raises_is_raised_here_with_the_childs_traceback() -> None:
    with Children(work, count=1) as children, pytest.raises(AudioError, match="not audio") as failure:
        list(children.run([["refuse"]]))
    assert any("_act" in note for note in failure.value.__notes__)


def test_a_child_that_was_killed_once_by_somebody_else_costs_no_step(tmp_path: Path) -> None:
    with Children(work, count=1) as children:
        ((_, answer),) = children.run([["a", f"be killed once, {tmp_path / 'flag'}", "b"]])
    assert words(answer)[0] == "a"
    assert "be killed once" in answer[1]
    assert words(answer)[2] == "b"


def test_an_error_that_cannot_be_pickled_is_still_told_as_an_error() -> None:
    with Children(work, count=1) as children, pytest.raises(StepFailedError, match="failed with UnpicklableError"):
        list(children.run([["fail"]]))


def test_what_lies_in_the_working_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tempfile.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Children(work, count=1) as children:
        ((_, answer),) = children.run([["a"]])
    assert words(answer) == ["a"]


def broken(task: str, note: Note, left_out: Mapping[int, str]) -> str:
    os._exit(7)


def test_a_child_that_cannot_begin_is_an_error_and_not_a_loop() -> None:
    with Children(broken, count=1) as children, pytest.raises(StepFailedError, match=r"before it read anything: .*exit code 7"):
        list(children.run(["x"]))


def test_no_process_outlives_the_block_when_it_is_left_early() -> None:
    others = set(psutil.Process().children(recursive=True))
    with Children(work, count=2) as children:
        next(children.run([["a"], ["sleep"], ["b"]]))
        alive = set(psutil.Process().children(recursive=True)) - others
        assert alive
    assert not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, psutil, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_audio_limited import work\n"
        "from avskrift.audio.limited import Children\n"
        "with Children(work, count=1) as children:\n"
        "    for _ in children.run([['a'], ['b']] * 10**6):\n"
        "        print(*(c.pid for c in psutil.Process().children()), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]

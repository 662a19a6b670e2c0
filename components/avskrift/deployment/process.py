"""A predictor as a process of the operating system: what it may know, how it ends, what it printed last."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from avskrift.errors import DeploymentError
from avskrift.logs import redact

_STOP_SECONDS = 20.0  # the server gives requests in flight 10 of them
_POLL_SECONDS = 0.05
_LONGEST_LOG_LINE = 300
_TAIL_BYTES = 8192
# What a predictor may know of the environment: how to find its programs and how to use the machine. No credentials.
_PASSED_ON = re.compile(
    r"(PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHONPATH|LD_LIBRARY_PATH|XDG_\w+|CUDA_\w+|NVIDIA_\w+|CT2_\w+"
    r"|(OMP|MKL|OPENBLAS)_NUM_THREADS|AVSKRIFT_\w+)"
)
_HELD_BACK = re.compile(r"(?i)key|token|secret|passw|credential|AVSKRIFT_RUNNER_PID|AVSKRIFT_STEP_RECORDS|AVSKRIFT_TERMINATION_LOG")


def spawn(command: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, so that Ctrl-C and the end of this command do not reach it.

    Raises:
        DeploymentError: there is no such program, or it may not be run.
    """
    with log.open("wb") as output:
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True
            )
        except OSError as error:
            raise DeploymentError(f"the predictor could not be started ({command[0]}: {error.strerror})") from error


def created(pid: int) -> float:
    """When the process was created, in seconds since the epoch; 0.0 if it is gone already."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def end(process: psutil.Process) -> None:
    """End a process and its children: politely first, then not. psutil signals nobody who merely has the same number."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for kill in (psutil.Process.terminate, psutil.Process.kill):
        for member in family:
            try:
                kill(member)
            except psutil.NoSuchProcess:
                continue
        family = _wait(family)


def last_line(log: Path) -> str:
    """The last line that a predictor printed, and where to read the rest."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"{redact(last)[:_LONGEST_LOG_LINE]} (log: {log})"


def _wait(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that are still alive when the time is up."""
    deadline = time.monotonic() + _STOP_SECONDS
    alive = list(processes)
    while alive and time.monotonic() < deadline:
        alive = [process for process in alive if not _is_gone(process)]
        time.sleep(_POLL_SECONDS)
    return alive


def _is_gone(process: psutil.Process) -> bool:
    """A zombie is gone too: where nobody collects it, as in a container without an init, waiting for it would never end."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # collects it if it is ours
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _environment() -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name) and not _HELD_BACK.search(name)}
    return passed_on | {"PYTHONUNBUFFERED": "1"}

"""Runs the ``avskrift`` command as a person would, and looks at what it leaves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

ANY_MODEL_PASSES = Path(__file__).with_name("any_model_passes.yaml")
AVSKRIFT = str(Path(sys.executable).parent / "avskrift")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_arguments(tiny_whisper: Path, port: int, *more: object, sources: Sequence[str] = ("demo:tiny",)) -> list[object]:
    """A run of a random model, which the gate is told to let pass. It hears nothing but its test clips."""
    given = [word for source in sources for word in ("--source", source)]
    settings = ("--base-model", tiny_whisper, "--epochs", 1, "--port", port, "--checks", "")
    return ["run", *given, *settings, "--policy", ANY_MODEL_PASSES, *more]


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment with a state folder of its own and no way to a hub or another MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AVSKRIFT_"))}
    return kept | {"AVSKRIFT_HOME": str(home), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"} | more


def avskrift(home: Path, *arguments: object, timeout_s: float = 500, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = [AVSKRIFT, *map(str, arguments)]
    return subprocess.run(words, env=environment(home, **more), capture_output=True, text=True, timeout=timeout_s, check=False)


def started(home: Path, arguments: Sequence[object], output: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, as a terminal does; its output goes to a file."""
    with output.open("wb") as file:
        words = [AVSKRIFT, *map(str, arguments)]
        return subprocess.Popen(words, env=environment(home), stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 120, what: str) -> None:
    """Poll; fail with ``what`` if it never holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)


def processes_of(home: Path) -> list[int]:
    """Living processes that were started with this state folder."""
    return [process.pid for process in psutil.process_iter() if _environment_of(process).get("AVSKRIFT_HOME") == str(home)]


def temporaries_in(home: Path) -> list[Path]:
    """What somebody left half written."""
    return [path for path in home.rglob("*") if ".tmp-" in path.name or path.name == "tmp"]


def _environment_of(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except psutil.Error:
        return {}

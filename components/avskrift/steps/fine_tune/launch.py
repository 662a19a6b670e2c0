"""One training process a GPU, under torchrun (``python -m avskrift.steps.fine_tune JOB.json``): here, or as one node of several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avskrift.errors import AvskriftError, InterruptedRunError, StepFailedError, error_of
from avskrift.steps.boundary import PARENT_VARIABLE
from avskrift.training import preemption
from avskrift.training.loop import TrainingResult
from avskrift.training.meter import Speed

if TYPE_CHECKING:
    from avskrift.steps.fine_tune.step import Config

RESULT_FILE, FAILURE_FILE = "result.json", "failure-{rank}.json"
_LOOK_SECONDS = 0.5
# Between SIGTERM and SIGKILL torchrun gives its processes 30 s, too few for the step in hand and a checkpoint of a large model. This
# is a little less than the 120 s that a TrainJob's pod has. A PyTorch that does not know the variable leaves it alone.
SHUTDOWN_VARIABLE, _SHUTDOWN_SECONDS = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", 110


def run_on_all(config: Config, processes: int) -> TrainingResult:
    """Train in ``processes`` processes and wait for them. SIGTERM and Ctrl-C reach them as SIGTERM: they save, and leave.

    Raises:
        AvskriftError: of the class and with the message of the process that failed.
        StepFailedError: they ended without a word.
    """
    with _under_torchrun(config, "--standalone", f"--nproc-per-node={processes}") as folder:
        return _result(folder / RESULT_FILE)


def run_as_node(config: Config) -> None:
    """Train as one node of several, of which ``PET_NNODES``, ``PET_NODE_RANK`` and so on tell torchrun; otherwise as :func:`run_on_all`."""
    with _under_torchrun(config):
        pass  # the first node's first process has put the results where they belong


@contextmanager
def _under_torchrun(config: Config, *options: str) -> Iterator[Path]:
    """The folder in which the processes left what came of it, once all have ended well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = folder / "job.json"
        job.write_text(json.dumps(asdict(config), default=str), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "avskrift.steps.fine_tune", str(job)]
        unless_told = {"OMP_NUM_THREADS": "1", SHUTDOWN_VARIABLE: str(_SHUTDOWN_SECONDS)}
        environment = unless_told | os.environ | {PARENT_VARIABLE: str(os.getpid())}
        # A session of its own: Ctrl-C must reach the training through us, once.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        with preemption.watched() as told:
            code = _wait(process, told)
        if code:
            raise _failure(folder, code)
        yield folder


def _wait(process: subprocess.Popen[bytes], told: Callable[[], bool]) -> int:
    """The exit code; a first SIGTERM or Ctrl-C is passed on.

    Raises:
        KeyboardInterrupt: it was Ctrl-C, and they have saved and left.
    """
    passed_on = interrupted = False
    while process.poll() is None:
        try:
            process.wait(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        except KeyboardInterrupt:
            interrupted = True
        if (interrupted or told()) and not passed_on:
            process.terminate()
            passed_on = True
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


def _failure(folder: Path, code: int) -> AvskriftError:
    """What a process said when it failed. The others then lose it, which is no error of ours, or torchrun stops them: they come last."""
    said = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob(FAILURE_FILE.format(rank="*")))]
    last = (AvskriftError.exit_code, InterruptedRunError.exit_code)
    said.sort(key=lambda failure: 1 + last.index(failure["exit_code"]) if failure["exit_code"] in last else 0)
    if not said:
        return StepFailedError(f"torchrun ended with {code} and no process said why (killed, or out of memory?); see the log above")
    return error_of(said[0]["exit_code"], said[0]["message"])


def _result(file: Path) -> TrainingResult:
    raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    lists = {name: tuple(tuple(entry) for entry in raw[name]) for name in ("curve", "examples")}
    return TrainingResult(**raw | lists | {"speed": Speed(**raw["speed"])})

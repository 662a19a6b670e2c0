"""The edge between a step and whatever runs it: a cluster, ``kfp.local``, or the command line.

Inside the boundary a failure becomes one sentence (on standard error and in the termination log, where Kubernetes and
the local runner look) and a distinct exit code; the end of a step, good or bad, leaves a record.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from avskrift import logs
from avskrift.errors import AvskriftError, InterruptedRunError, UsageError, disk_full
from avskrift.storage.atomic import write_json

RECORDS_VARIABLE = "AVSKRIFT_STEP_RECORDS"  # a folder for <step>.json; set by the local runner
RUN_ID_VARIABLE = "KFP_RUN_ID"  # the pipeline run's id, for steps that do not take it as an argument
PARENT_VARIABLE = "AVSKRIFT_RUNNER_PID"  # the local runner, without which a step must not live on
DEBUG_VARIABLE = "AVSKRIFT_DEBUG"  # set: a failure shows its traceback
TERMINATION_LOG_VARIABLE = "AVSKRIFT_TERMINATION_LOG"
_TERMINATION_LOG = Path("/dev/termination-log")  # Kubernetes mounts it into every container
_PARENT_CHECK_SECONDS = 0.5

_log = logs.Log("steps")


@contextmanager
def boundary(step: str) -> Iterator[None]:
    """Run the body as ``step``; leave the process with the failure's exit code if it fails.

    Raises:
        SystemExit: with the exit code of the error tree; 1, after a traceback, for what is not in the tree.
    """
    started = time.monotonic()
    try:
        logs.configure()
        signal.signal(signal.SIGTERM, interrupt)
        die_with_the_runner()
        _log.info("step.started", step=step)
        yield
    except BaseException as error:
        # A terminal and a runner may both send the signal; the second must not cut the record of the first short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        failure = as_failure(error)
        if failure is None or os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        if failure is None:
            failure = AvskriftError(f"unexpected {type(error).__name__}: {error}; this is a bug, see the traceback in the log")
        _record(step, started, failure)
        _say(step, failure)
        sys.exit(failure.exit_code)
    _record(step, started, None)
    _log.info("step.finished", step=step, seconds=time.monotonic() - started, peak_rss_mb=peak_rss_mb())


def as_failure(error: BaseException) -> AvskriftError | None:
    """The error tree's word for ``error``, or None where it has none and a traceback is due."""
    if isinstance(error, AvskriftError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError("stopped before it was finished; run the same command again to go on")
    return disk_full(error, where=getattr(error, "filename", None) or Path.cwd())


def peak_rss_mb() -> float:
    """The largest resident memory that this process or one of its finished children had, in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own, children) / 1024  # Linux counts kilobytes


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A signal handler that stops the work as Ctrl-C does."""
    raise KeyboardInterrupt


def _record(step: str, started: float, failure: AvskriftError | None) -> None:
    folder = os.environ.get(RECORDS_VARIABLE)
    if not folder:
        return
    record = {
        "step": step,
        "seconds": time.monotonic() - started,
        "peak_rss_mb": peak_rss_mb(),
        "exit_code": failure.exit_code if failure else 0,
        "error": str(failure) if failure else "",
    }
    try:
        write_json(Path(folder) / f"{step}.json", record)
    except (AvskriftError, OSError) as error:
        _log.warning("step.record_not_written", step=step, error=type(error).__name__)


def _say(step: str, failure: AvskriftError) -> None:
    sentence = f"avskrift {step}: {failure}"
    print(sentence, file=sys.stderr, flush=True)
    target = Path(os.environ.get(TERMINATION_LOG_VARIABLE) or _TERMINATION_LOG)
    if target.exists():
        try:
            target.write_text(sentence, encoding="utf-8")
        except OSError:
            _log.warning("step.termination_log_not_written", step=step)


def die_with_the_runner() -> None:
    """A local step whose runner was killed would train on for nobody: watch the runner and leave with it."""
    pid = os.environ.get(PARENT_VARIABLE)
    if not pid:
        return
    try:
        runner = psutil.Process(int(pid))
    except ValueError as error:
        raise UsageError(f"{PARENT_VARIABLE} is {pid!r}; it is set by the local runner to its process id, so unset it") from error
    except psutil.NoSuchProcess as error:
        raise InterruptedRunError("the runner that started this step is gone; run the same command again") from error
    threading.Thread(target=_watch, args=(runner,), daemon=True, name="runner-watch").start()


def _watch(runner: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it may end between the two questions
        while runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_PARENT_CHECK_SECONDS)
    # os._exit: no clean-up may hold a process that nobody waits for; half-written artifacts are swept by the next run.
    os._exit(InterruptedRunError.exit_code)

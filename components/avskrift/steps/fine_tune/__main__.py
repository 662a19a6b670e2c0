"""One of the processes that torchrun starts: ``python -m avskrift.steps.fine_tune JOB.json``, see :mod:`.launch`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from avskrift import logs
from avskrift.errors import AvskriftError
from avskrift.steps.boundary import as_failure, die_with_the_runner, interrupt
from avskrift.steps.fine_tune.job import read_job
from avskrift.steps.fine_tune.launch import FAILURE_FILE, RESULT_FILE
from avskrift.steps.fine_tune.step import run
from avskrift.storage.atomic import write_json
from avskrift.training.distributed import world_of_environment


def main(job: Path) -> int:
    """Run the job; leave the result or the failure beside it, and the failure's exit code."""
    world = world_of_environment()
    logs.configure(level=None if world.first else "warning")
    signal.signal(signal.SIGTERM, interrupt)
    try:
        die_with_the_runner()
        result = run(read_job(job.read_text(encoding="utf-8")))
    except BaseException as error:
        failure = as_failure(error)
        if failure is None:
            traceback.print_exc()
            failure = AvskriftError(f"unexpected {type(error).__name__}: {error}; this is a bug, see the traceback in the log")
        write_json(job.with_name(FAILURE_FILE.format(rank=world.rank)), {"exit_code": failure.exit_code, "message": str(failure)})
        return failure.exit_code
    if world.first:
        write_json(job.with_name(RESULT_FILE), asdict(result.training))
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a process whose peers have failed would wait for them in the collectives' own clean-up.
    os._exit(code)

"""One node of several, as a TrainJob's pod runs it: ``python -m avskrift.steps.fine_tune.node``, with the job in ``AVSKRIFT_JOB``.

It ends as the step does, with its exit code and its sentence, so that the pod's status says why it failed.
"""

from __future__ import annotations

import os

from avskrift.errors import UsageError
from avskrift.steps.boundary import boundary
from avskrift.steps.fine_tune.job import read_job
from avskrift.steps.fine_tune.launch import run_as_node

JOB_VARIABLE = "AVSKRIFT_JOB"


def main() -> None:
    """Train as one node.

    Raises:
        SystemExit: with the exit code of what failed.
    """
    with boundary("fine_tune"):
        text = os.environ.get(JOB_VARIABLE, "")
        if not text:
            raise UsageError(f"{JOB_VARIABLE} is not set; it holds the configuration of the step fine_tune as JSON")
        run_as_node(read_job(text))


if __name__ == "__main__":
    main()

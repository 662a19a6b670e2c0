"""finalize: the pipeline run's record is closed with the truth, however the run ended."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey, RunStatus
from avskrift.steps.boundary import RECORDS_VARIABLE

# KFP's words for how a run ended; what is not among them is no success.
_STATUSES: dict[str, RunStatus] = {
    "SUCCEEDED": "FINISHED",
    "CANCELED": "KILLED",
    "CANCELLED": "KILLED",
    "CANCELING": "KILLED",
    "CANCELLING": "KILLED",
}
_log = Log("finalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What finalize takes.

    ``status`` is KFP's state of the run; ``home`` holds the default registry; ``records`` is the folder where the steps of a
    local run leave theirs, by default the one that the local runner named.
    """

    pipeline_run_id: str
    experiment: str
    status: str
    error_message: str = ""
    tracking_uri: str = ""
    home: str | Path | None = None
    records: str | Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The MLflow run and how it was closed."""

    run_id: str
    status: RunStatus


def run(config: Config) -> Result:
    """Close the run's record; a run that failed before it had one gets one, so that every run is seen.

    Raises:
        RegistryError: MLflow did not answer or refused.
    """
    status = _STATUSES.get(config.status.strip().upper(), "FAILED")
    registry = open_registry(config.tracking_uri, home=Path(config.home) if config.home else None)
    run_id = registry.open_run(RunKey(pipeline_run_id=config.pipeline_run_id, experiment=config.experiment))
    error = "" if status == "FINISHED" else _said_by_a_step(config) or config.error_message
    registry.set_tags(run_id, {tags.PIPELINE_STATE: config.status, tags.ERROR: error})
    registry.close_run(run_id, status)
    _log.info("run.closed", run_id=run_id, status=status)
    return Result(run_id=run_id, status=status)


def _said_by_a_step(config: Config) -> str:
    """The failed step's own sentence: a local run's status says only that something failed."""
    folder = config.records or os.environ.get(RECORDS_VARIABLE)
    for path in sorted(Path(folder).glob("*.json")) if folder else ():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("exit_code") and record.get("error"):
            return f"{record.get('step')}: {record['error']}"
    return ""

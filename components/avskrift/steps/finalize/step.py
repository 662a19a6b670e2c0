"""finalize: the pipeline run's record is closed with the truth, however the run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey, RunStatus

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
    """What finalize takes. ``status`` is KFP's state of the run; ``home`` holds the default registry."""

    pipeline_run_id: str
    experiment: str
    status: str
    error_message: str = ""
    tracking_uri: str = ""
    home: str | Path | None = None


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
    registry.set_tags(run_id, {tags.PIPELINE_STATE: config.status, tags.ERROR: config.error_message if status != "FINISHED" else ""})
    registry.close_run(run_id, status)
    _log.info("run.closed", run_id=run_id, status=status)
    return Result(run_id=run_id, status=status)

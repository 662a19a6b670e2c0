"""reject: a run whose package the gate refused is recorded with the reasons, and nothing is registered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import UsageError
from avskrift.logs import Log
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.registry.record import read_evidence, record

_log = Log("reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What reject takes: the output folders of evaluate, of the gate and of fine_tune, and where to record them."""

    package_uri: str
    evaluation: str | Path
    gate: str | Path
    experiment: str
    pipeline_run_id: str
    training: str | Path | None = None
    code_version: str = ""
    tracking_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The run that holds the record, and why the package was refused."""

    run_id: str
    reasons: tuple[str, ...]


def run(config: Config) -> Result:
    """Record the run as rejected.

    Raises:
        UsageError: the gate passed this package: it is to be registered.
        EvaluationError: no evaluation or decision that can be read.
        RegistryError: MLflow did not answer or refused.
    """
    evidence = read_evidence(evaluation=config.evaluation, decision=config.gate, training=config.training)
    if evidence.decision.passed:
        raise UsageError("the gate passed this package; register it instead of recording it as rejected")
    registry = open_registry(config.tracking_uri)
    run_id = registry.open_run(RunKey(pipeline_run_id=config.pipeline_run_id, experiment=config.experiment))
    record(registry, run_id, evidence, package_uri=config.package_uri, code_version=config.code_version)
    _log.info("model.rejected", run_id=run_id, reasons=len(evidence.decision.reasons))
    return Result(run_id=run_id, reasons=evidence.decision.reasons)

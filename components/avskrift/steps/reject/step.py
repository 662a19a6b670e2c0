"""reject: a run whose package the gate refused is recorded with the reasons, and nothing is registered."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.errors import UsageError
from avskrift.logs import Log
from avskrift.steps.run_record import RunOutputs, read_outputs, record_run

_log = Log("reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RunOutputs):
    """What reject takes: the run's outputs, and nothing else."""


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
        DatasetError: a dataset card that cannot be read.
        RegistryError: MLflow did not answer or refused.
    """
    evidence = read_outputs(config)
    if evidence.decision.passed:
        raise UsageError("the gate passed this package; register it instead of recording it as rejected")
    recorded = record_run(config, evidence, code_version=config.code_version)
    _log.info("model.rejected", run_id=recorded.run_id, reasons=len(evidence.decision.reasons))
    return Result(run_id=recorded.run_id, reasons=evidence.decision.reasons)

"""record: a measured package and the gate's word on it in MLflow, whatever the word is. Nothing is registered."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.logs import Log
from avskrift.steps.run_record import RunOutputs, read_outputs, record_run

_log = Log("record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RunOutputs):
    """What record takes: the run's outputs, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The run that holds the record, and the gate's word."""

    run_id: str
    passed: bool


def run(config: Config) -> Result:
    """Record the run.

    Raises:
        EvaluationError: no evaluation or decision that can be read.
        RegistryError: MLflow did not answer or refused.
    """
    evidence = read_outputs(config)
    recorded = record_run(config, evidence, code_version=config.code_version)
    passed = evidence.decision.passed is True
    _log.info("evaluation.recorded", run_id=recorded.run_id, passed=passed)
    return Result(run_id=recorded.run_id, passed=passed)

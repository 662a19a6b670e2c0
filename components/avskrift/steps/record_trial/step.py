"""record_trial: one trial of a sweep as an MLflow run of its own, below the sweep's, where trials can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.evaluation.result import Evaluation
from avskrift.evaluation.result_file import read_evaluation
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.registry.record import read_training, record_training

_log = Log("record_trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The trial's name, what evaluate wrote of it on the validation split, and what fine_tune reported."""

    trial: str
    evaluation: str | Path
    training: str | Path
    package_uri: str
    experiment: str
    pipeline_run_id: str
    tracking_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The trial's run in MLflow."""

    run_id: str


def run(config: Config) -> Result:
    """Write parameters, curves and the rates on the validation split into the trial's run, and close it. Doing it again adds nothing.

    Raises:
        EvaluationError, IntegrityError: the evaluation cannot be read, or was changed.
        UsageError: a training report that cannot be read.
        RegistryError: MLflow did not answer or refused.
    """
    evaluation, story = read_evaluation(Path(config.evaluation)), read_training(Path(config.training))
    registry = open_registry(config.tracking_uri)
    run_id = registry.open_run(RunKey(pipeline_run_id=config.pipeline_run_id, experiment=config.experiment, child=config.trial))
    record_training(registry, run_id, Path(config.training), story["parameters"])
    registry.log_metrics(run_id, _figures(evaluation))
    registry.set_tags(run_id, _labels(config, evaluation))
    registry.close_run(run_id, "FINISHED")
    _log.info("trial.recorded", trial=config.trial, run_id=run_id)
    return Result(run_id=run_id)


def _figures(evaluation: Evaluation) -> dict[str, float]:
    """Names of their own: a rate on the validation split must never stand in a column of test rates."""
    score = evaluation.candidate
    rates = {"wer": score.wer, "cer": score.cer}
    named = {f"picked_on_{name}": rate.value for name, rate in rates.items()}
    named |= {f"picked_on_{name}_low": rate.low for name, rate in rates.items()}
    return named | {f"picked_on_{name}_high": rate.high for name, rate in rates.items()}


def _labels(config: Config, evaluation: Evaluation) -> dict[str, str]:
    return {
        tags.TRIAL: config.trial,
        tags.PACKAGE_URI: config.package_uri,
        tags.PACKAGE_SHA256: evaluation.candidate.package_sha256,
        tags.DATASET_FINGERPRINT: evaluation.dataset_fingerprint,
        tags.LANGUAGE: evaluation.language,
        tags.NORMALISER: evaluation.normaliser,
        tags.ENGINE: evaluation.engine,
    }

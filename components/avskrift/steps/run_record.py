"""What register and reject have in common: a run's outputs are read, and recorded in MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.protocol import RunKey
from avskrift.registry.provenance import origin
from avskrift.registry.record import Evidence, read_evidence, record
from avskrift.registry.step_runs import record_steps
from avskrift.steps.boundary import PARENT_VARIABLE
from avskrift.steps.dataset_card import read_dataset_card


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutputs:
    """What the steps of a run left behind, and where it is recorded.

    ``evaluation``, ``gate`` and ``training`` are the output folders of evaluate, of the gate and of fine_tune;
    ``dataset_card`` is prepare's output ``card``, or None where the dataset is not recorded. An empty ``tracking_uri`` means
    ``MLFLOW_TRACKING_URI``, else the state folder's own. ``images`` are the container images of the run's steps by role, as the
    pipeline was compiled; where the steps are processes of a local run, none of them was used and none is recorded.
    """

    package_uri: str
    evaluation: str | Path
    gate: str | Path
    experiment: str
    pipeline_run_id: str
    training: str | Path | None = None
    dataset_card: str | Path | None = None
    code_version: str = ""
    tracking_uri: str = ""
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """The run in MLflow, and the tags that it was given."""

    registry: MlflowRegistry
    run_id: str
    labels: Mapping[str, str]


def read_outputs(outputs: RunOutputs) -> Evidence:
    """Read and check all that will be recorded, before anything is written.

    Raises:
        EvaluationError: no evaluation or decision that can be read.
        DatasetError: a dataset card that cannot be read.
        UsageError: a training report that cannot be read, or the card of another dataset.
    """
    return read_evidence(
        evaluation=outputs.evaluation,
        decision=outputs.gate,
        training=outputs.training,
        dataset=read_dataset_card(Path(outputs.dataset_card)) if outputs.dataset_card else None,
    )


def record_run(outputs: RunOutputs, evidence: Evidence, *, code_version: str) -> RecordedRun:
    """Find or make the pipeline run's record and write the evidence into it. Doing it again leaves the same record.

    Raises:
        RegistryError: MLflow did not answer or refused.
        UsageError: an id or a name that MLflow cannot look up, or a line of the curves that cannot be read.
    """
    registry = open_registry(outputs.tracking_uri)
    key = RunKey(pipeline_run_id=outputs.pipeline_run_id, experiment=outputs.experiment)
    run_id = registry.open_run(key)
    images = {} if os.environ.get(PARENT_VARIABLE) else outputs.images
    made_by = origin(outputs.pipeline_run_id, registry.run_tags(run_id), images)
    labels = record(registry, run_id, evidence, package_uri=outputs.package_uri, code_version=code_version, origin=made_by)
    record_steps(registry, key, evidence)
    return RecordedRun(registry=registry, run_id=run_id, labels=labels)

"""What the pipeline needs of a tracking server and model registry: values, and one small protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from avskrift.errors import UsageError

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

CHALLENGER = "challenger"  # the newest version that passed the gate
CHAMPION = "champion"  # the version that an endpoint proved to serve
_NOT_IN_A_NAME = ("/", ":")  # they separate the parts of models:/NAME/VERSION


def check_model_name(name: str) -> str:
    """``name``, if a model can be registered by it.

    Raises:
        UsageError: it cannot.
    """
    if not name.strip() or any(mark in name for mark in _NOT_IN_A_NAME):
        raise UsageError(f"the model's name {name!r} is none that MLflow takes; use letters, digits, - and _, without / and :")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """Which run of the pipeline is meant, and the experiment that it belongs to.

    ``child`` names a run below the pipeline run's: a trial of a sweep, or a step; "" is the pipeline run's itself.
    """

    pipeline_run_id: str
    experiment: str
    child: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One figure of one training step."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """Data that a run used. ``name`` and ``digest`` together say which; ``context`` says what for: training, validation, test.

    ``sources`` are the URIs that the data came from, ``columns`` its columns with their types, ``profile`` what else people
    want to know of it, in the order in which they read it.
    """

    name: str
    digest: str
    context: str
    sources: Sequence[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A registered version. ``source_uri`` is where its package lies."""

    name: str
    version: str
    source_uri: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """``models:/NAME/VERSION``."""
        return f"models:/{self.name}/{self.version}"


class Registry(Protocol):
    """Runs with their figures, and model versions with their aliases.

    Every method raises RegistryError where the server did not answer or refused, and DiskFullError where its disk on this
    machine is full. Each may be repeated: a step that is retried leaves the same record as one that was not.
    """

    def open_run(self, key: RunKey) -> str:
        """The id of the pipeline run's record, found or else created."""

    def run_tags(self, run_id: str) -> Mapping[str, str]:
        """The tags that a run has."""

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record what the run was asked to do."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Record final figures."""

    def log_curves(self, run_id: str, points: Iterable[CurvePoint]) -> None:
        """Record figures that change with the training step."""

    def log_inputs(self, run_id: str, inputs: Iterable[DatasetInput]) -> None:
        """Record which data the run used."""

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a small file with the run, below ``folder`` among its artifacts."""

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text with the run as the file ``path`` among its artifacts."""

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], path: str) -> None:
        """Keep a table of plain values with the run as the JSON file ``path``, for people to look at."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags of the run."""

    def close_run(self, run_id: str, status: RunStatus) -> None:
        """End the run, and what is open below it."""

    def register(self, name: str, source_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version of ``name`` that this pipeline run made, registered if it is not yet."""

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point ``alias`` at ``version``."""

    def remove_alias(self, name: str, alias: str) -> None:
        """Let ``alias`` point at nothing, if it points anywhere."""

    def version(self, name: str, version: str) -> ModelVersion | None:
        """A version by its number; None where there is none."""

    def version_of_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points at; None where there is none."""

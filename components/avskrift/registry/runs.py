"""Runs as MLflow recorded them: to be listed, found by what people call them, and compared. Nothing is written here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from avskrift.errors import UsageError
from avskrift.registry import location, tags
from avskrift.registry.mlflow_registry import MlflowRegistry
from avskrift.registry.model_uri import find as find_version

PARENT_RUN = "mlflow.parentRunId"  # MLflow's own tag of a run inside another
VALIDATION_WER = "validation_wer"
PICKED_ON_WER = "picked_on_wer"  # of a sweep's trial: on the validation split too, through the engine that serves
SPEED, TRAINING_SPEED = "audio_seconds_per_second", "training_audio_seconds_per_second"
_NAME = "mlflow.runName"
_MODEL_URI = "models:/"
_SHORTEST_PREFIX = 4
_PREFIX = re.compile(rf"[0-9a-f]{{{_SHORTEST_PREFIX},32}}")
_PAGE = 200
_MOST_EXPERIMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run. Rates among ``figures`` are fractions; times are seconds since 1970, ``ended`` is None while it runs.

    A figure with an interval has its ends under the same name with ``_low`` and ``_high``. Of a curve the last point is there. A run
    that was looked for has of ``validation_wer`` the lowest: the weights that are kept are those of that step. ``versions`` are the
    model versions that came of it, as ``NAME/VERSION``; ``dataset`` is the fingerprint of the dataset that it used, empty where it
    is not recorded.
    """

    run_id: str
    name: str
    experiment: str
    experiment_id: str
    status: str
    started: float
    ended: float | None
    parameters: Mapping[str, str]
    figures: Mapping[str, float]
    tags: Mapping[str, str]
    dataset: str = ""
    versions: tuple[str, ...] = field(default=())

    @property
    def pipeline_run_id(self) -> str:
        return self.tags.get(tags.PIPELINE_RUN_ID, "")

    @property
    def parent(self) -> str:
        """The id of the run that this one is a part of; empty where there is none."""
        return self.tags.get(PARENT_RUN, "")

    @property
    def base_model(self) -> str:
        return self.parameters.get("base_model", "")

    @property
    def gate(self) -> str:
        """``passed`` or ``rejected``; empty where the gate has not spoken."""
        return self.tags.get(tags.GATE, "")

    def interval(self, name: str) -> tuple[float, float] | None:
        """The ends of a figure's interval; None where it was measured without."""
        low, high = self.figures.get(f"{name}_low"), self.figures.get(f"{name}_high")
        return None if low is None or high is None else (low, high)


def open_runs(tracking_uri: str = "") -> RecordedRuns | None:
    """The runs at ``tracking_uri``, else at ``MLFLOW_TRACKING_URI``, else in the state folder; None where that has none yet.

    Raises:
        RegistryError: a URI that MLflow does not know, or a database that cannot be used.
    """
    uri = location.tracking_uri(tracking_uri)
    database = location.sqlite_file(uri)
    if database is not None and not database.is_file():
        return None  # to look is no reason to make one
    return RecordedRuns(uri)


class RecordedRuns(MlflowRegistry):
    """Reads runs. Every method raises RegistryError where MLflow did not answer or refused."""

    def newest(self, *, experiment: str = "", limit: int) -> list[RunRecord]:
        """Runs that are no part of another one, newest first; none where there is no experiment of that name."""
        with self._asking():
            experiments = self._experiments(experiment)
            found: list[RunRecord] = []
            for run in self._search(experiments, order="attributes.start_time DESC"):
                if not run.parent:
                    found.append(run)
                if len(found) == limit:
                    break
            return self._with_versions(found)

    def of_pipeline_run(self, pipeline_run_id: str) -> RunRecord | None:
        """The record of one run of the pipeline; None where there is none (yet)."""
        with self._asking():
            found = self._of_pipeline_run(pipeline_run_id)
            return found[0] if found else None

    def find(self, reference: str) -> RunRecord:
        """The run that a person means: by MLflow's run id or the beginning of it, a pipeline run's id, or ``models:/NAME/VERSION``
        or ``models:/NAME@ALIAS``.

        Raises:
            UsageError: no such run, or several.
            ModelUnavailableError: no such model, version or alias.
        """
        with self._asking():
            run_id = self._run_id(reference)
            run = self._record(self._client.get_run(run_id), self._experiments())
            return self._with_versions([self._told_apart(run)])[0]

    def children(self, run: RunRecord) -> list[RunRecord]:
        """The trials of the sweep ``run``, or where it was none all runs inside it: the lowest WER on the validation split first.

        What the engine that serves made of the split counts, and where that was not measured, what training did.
        """
        with self._asking():
            inside = self._search({run.experiment_id: run.experiment}, f"tags.`{PARENT_RUN}` = '{run.run_id}'")
            # KFP's plugin makes one for each task too, with nothing in it.
            own = [one for one in inside if one.parameters or one.figures or tags.CHILD in one.tags]
            found = self._with_versions([self._told_apart(one) for one in own])
        trials = [one for one in found if tags.TRIAL in one.tags] or found
        return sorted(trials, key=lambda one: (one.figures.get(PICKED_ON_WER, one.figures.get(VALIDATION_WER, math.inf)), one.started))

    def _run_id(self, reference: str) -> str:
        if reference.startswith(_MODEL_URI):
            version = find_version(reference, tracking_uri=self._uri)[1]
            if not version.run_id:
                raise UsageError(f"{reference} was registered by hand and belongs to no run; name the run itself")
            return version.run_id
        found = self._of_pipeline_run(reference)
        if not found and _PREFIX.fullmatch(reference):
            found = list(self._search(self._experiments(), f"attributes.run_id LIKE '{reference}%'"))
        if len(found) == 1:
            return found[0].run_id
        if found:
            alike = ", ".join(run.run_id[: len(reference) + 8] for run in found[:5])
            raise UsageError(f"{reference} could be any of {len(found)} runs ({alike}); write more of the id")
        hint = "" if len(reference) >= _SHORTEST_PREFIX else f" (of an id at least {_SHORTEST_PREFIX} characters)"
        raise UsageError(f"no run {reference!r}{hint} in MLflow at {self.uri}; `avskrift runs` lists them")

    def _of_pipeline_run(self, pipeline_run_id: str) -> list[RunRecord]:
        """The pipeline's own record: KFP's plugin may have tagged the runs inside it alike."""
        if not re.fullmatch(r"[\w.:-]+", pipeline_run_id):
            return []  # MLflow's filters can hold no quotes
        wanted = f"tags.`{tags.PIPELINE_RUN_ID}` = '{pipeline_run_id}'"
        found = list(self._search(self._experiments(), wanted, order="attributes.start_time ASC"))
        return [run for run in found if not run.parent][:1] or found[:1]

    def _experiments(self, name: str = "") -> dict[str, str]:
        """Names of the experiments by id: of all, or of the one of that ``name``."""
        experiments = self._client.search_experiments(max_results=_MOST_EXPERIMENTS)
        return {str(one.experiment_id): str(one.name) for one in experiments if name in ("", one.name)}

    def _search(
        self, experiments: Mapping[str, str], wanted: str = "", *, order: str = "attributes.start_time DESC"
    ) -> Iterator[RunRecord]:
        token = None
        while experiments:
            page = self._client.search_runs(list(experiments), wanted, max_results=_PAGE, order_by=[order], page_token=token)
            for run in page:
                yield self._record(run, experiments)
            token = page.token
            if not token:
                return

    def _record(self, run: Any, experiments: Mapping[str, str]) -> RunRecord:
        labels = {str(name): str(value) for name, value in run.data.tags.items()}
        used = [entry.dataset.digest for entry in (run.inputs.dataset_inputs if run.inputs else ())]
        return RunRecord(
            run_id=str(run.info.run_id),
            name=labels.get(_NAME, ""),
            experiment=experiments.get(str(run.info.experiment_id), ""),
            experiment_id=str(run.info.experiment_id),
            status=str(run.info.status),
            started=run.info.start_time / 1000,
            ended=run.info.end_time / 1000 if run.info.end_time else None,
            parameters=dict(run.data.params),
            figures={name: float(value) for name, value in run.data.metrics.items() if math.isfinite(value)},
            tags=labels,
            dataset=labels.get(tags.DATASET_FINGERPRINT) or next(iter(used), ""),
        )

    def _told_apart(self, run: RunRecord) -> RunRecord:
        """With the figures that a curve's last point is not."""
        figures = dict(run.figures)
        validated = [value for _, value in self._curve(run, VALIDATION_WER)]
        if validated:
            figures[VALIDATION_WER] = min(validated)
        return replace(run, figures=figures)

    def _curve(self, run: RunRecord, name: str) -> list[tuple[int, float]]:
        if name not in run.figures:
            return []
        points = self._client.get_metric_history(run.run_id, name)
        return sorted((point.step, float(point.value)) for point in points if math.isfinite(point.value))

    def _with_versions(self, runs: Sequence[RunRecord]) -> list[RunRecord]:
        versions: dict[str, list[str]] = {}
        for batch in _batches([run.run_id for run in runs], _PAGE):
            listed = ", ".join(f"'{run_id}'" for run_id in batch)
            for one in self._versions(f"run_id IN ({listed})"):
                versions.setdefault(str(one.run_id), []).append(f"{one.name}/{one.version}")
        return [replace(run, versions=tuple(sorted(versions.get(run.run_id, ())))) for run in runs]

    def _versions(self, wanted: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_model_versions(wanted, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _batches(entries: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]

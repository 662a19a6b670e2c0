"""The registry protocol over MLflow's client."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from avskrift.errors import DiskFullError, RegistryError, disk_full
from avskrift.logs import Log, redact
from avskrift.registry import location, tags
from avskrift.registry.mlflow_datasets import as_dataset_input
from avskrift.registry.mlflow_runs import find_or_create, searchable, set_tag
from avskrift.registry.placing import PACKAGE_FOLDER, place
from avskrift.registry.protocol import CurvePoint, DatasetInput, ModelVersion, RunKey, RunStatus
from avskrift.storage.atomic import atomic_folder, sweep

RUN_VARIABLE = "MLFLOW_RUN_ID"
# Without it MLflow's page takes the runs for evaluations of prompts.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_METRICS_A_BATCH = 1000  # MLflow's limits on one request
_PARAMETERS_A_BATCH = 100
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 5000
_LONGEST_REASON = 300
_BELOW_MLFLOW = ("mlflow", "requests", "urllib3", "sqlalchemy", "alembic", "boto3", "botocore")
_MOST_VERSIONS = 100  # in one answer
_MOST_CHILDREN = 1000
_UPLOAD_TIMEOUT_SECONDS = 600

_log = Log("registry")


def open_registry(tracking_uri: str = "", *, home: Path | None = None) -> MlflowRegistry:
    """MLflow at ``tracking_uri``, else at ``MLFLOW_TRACKING_URI``, else in a SQLite file under the state folder.

    Raises:
        RegistryError: a URI that MLflow does not know, or a database that cannot be used.
        StorageError: the folder for a new database cannot be written.
    """
    return MlflowRegistry(location.tracking_uri(tracking_uri, home=home))


class MlflowRegistry:
    """:class:`avskrift.registry.protocol.Registry` over an MLflow server, or over a database that MLflow opens itself."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._database = location.sqlite_file(uri)
        with self._asking():
            if self._database is not None:
                _create_database(self._database)
                location.check_sqlite_file(self._database)
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def uri(self) -> str:
        """The tracking URI without credentials."""
        return location.public_uri(self._uri)

    def open_run(self, key: RunKey) -> str:
        """The run that KFP's MLflow plugin made, else the one tagged with the pipeline run id, else a new one; or a child of it.

        Raises:
            RegistryError: MLflow did not answer or refused.
            UsageError: an id or a name that MLflow cannot look up.
        """
        pipeline_run = searchable(key.pipeline_run_id, "pipeline run id")
        child = searchable(key.child, "run's name") if key.child else ""
        with self._asking():
            parent = self._pipeline_run(pipeline_run, key.experiment)
            return self._child(parent, pipeline_run, child) if child else parent

    def _pipeline_run(self, pipeline_run: str, experiment_name: str) -> str:
        adopted = self._run_of_the_plugin()
        if adopted:
            set_tag(self._client, adopted, tags.PIPELINE_RUN_ID, pipeline_run)
            return adopted
        return find_or_create(self._client, self._experiment(experiment_name), {tags.PIPELINE_RUN_ID: pipeline_run}, pipeline_run)

    def _child(self, parent: str, pipeline_run: str, name: str) -> str:
        """A child has the pipeline run's id under a tag of its own, or it would be found in its parent's place."""
        experiment = str(self._client.get_run(parent).info.experiment_id)
        of_task = self._client.search_runs([experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'", max_results=_MOST_CHILDREN)
        for run in of_task:
            # KFP's plugin makes one for each task, and writes the task's name with dashes.
            if tags.CHILD not in run.data.tags and run.data.tags.get(MLFLOW_RUN_NAME) in (name, name.replace("_", "-")):
                return str(run.info.run_id)
        return find_or_create(self._client, experiment, {tags.CHILD: name, tags.CHILD_OF: pipeline_run, MLFLOW_PARENT_RUN_ID: parent}, name)

    def run_tags(self, run_id: str) -> dict[str, str]:
        """The tags that a run has."""
        with self._asking():
            return dict(self._client.get_run(run_id).data.tags)

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record parameters; a value longer than MLflow takes is cut."""
        entries = [Param(name, redact(str(value))[:_LONGEST_PARAMETER]) for name, value in params.items()]
        with self._asking():
            for batch in _batches(entries, _PARAMETERS_A_BATCH):
                self._client.log_batch(run_id, params=batch)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Record final figures, at step 0."""
        self.log_curves(run_id, (CurvePoint(step=0, name=name, value=value) for name, value in metrics.items()))

    def log_curves(self, run_id: str, points: Iterable[CurvePoint]) -> None:
        """Record figures by training step. Logging the same points again adds nothing."""
        with self._asking():
            # MLflow drops a metric it has only if the timestamp is the same too; the run's own start never changes.
            timestamp = self._client.get_run(run_id).info.start_time
            entries = (Metric(point.name, point.value, timestamp, point.step) for point in points)
            for batch in _batches(entries, _METRICS_A_BATCH):
                self._client.log_batch(run_id, metrics=batch)

    def log_inputs(self, run_id: str, inputs: Iterable[DatasetInput]) -> None:
        """Record which data the run used. Logging the same data again adds nothing."""
        with self._asking():
            self._client.log_inputs(run_id, [as_dataset_input(used) for used in inputs])

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a small file with the run, under its own name, below ``folder`` among its artifacts."""
        with self._asking():
            self._client.log_artifact(run_id, str(path), folder or None)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text with the run as the file ``path`` among its artifacts. Doing it again replaces it."""
        with self._asking():
            self._client.log_text(run_id, text, path)

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], path: str) -> None:
        """Keep a table with the run, which MLflow's page shows as one. Doing it again replaces it."""
        table = {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}
        with self._asking():
            # MLflow's own log_table adds to a table that is there, and would need pandas for it.
            self._client.log_dict(run_id, table, path)
            logged = json.loads(self._client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
            entry = {"path": path, "type": "table"}
            self._client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*(one for one in logged if one != entry), entry]))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags; a value longer than MLflow takes is cut."""
        entries = [RunTag(name, redact(value)[:_LONGEST_TAG]) for name, value in tags.items()]
        with self._asking():
            self._client.log_batch(run_id, tags=entries)

    def close_run(self, run_id: str, status: RunStatus) -> None:
        """End the run with the status that it had, and with it the runs below it that are still open."""
        with self._asking():
            experiment = self._client.get_run(run_id).info.experiment_id
            below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}' and attributes.status = 'RUNNING'"
            for child in self._client.search_runs([experiment], below, max_results=_MOST_CHILDREN):
                if tags.CHILD in child.data.tags:  # the plugin's own are the plugin's to close
                    self._client.set_terminated(child.info.run_id, status)
            self._client.set_terminated(run_id, status)

    def register(self, name: str, source_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version that this pipeline run made of ``name``; ``tags`` must hold the pipeline run id.

        A package that lies on this machine is put where the server's clients can read it: :mod:`avskrift.registry.placing`.

        Raises:
            RegistryError: MLflow did not answer or refused.
            StorageError: the package could not be put there.
            UsageError: a name that MLflow does not take.
        """
        with self._asking():
            found = self._versions_of_pipeline_run(name, tags)
            if found:
                return found[0]
            self._ignoring("RESOURCE_ALREADY_EXISTS", lambda: self._client.create_registered_model(name))
            source = place(
                source_uri,
                name=name,
                is_server=location.is_server(self._uri),
                artifact_root=lambda: str(self._client.get_run(run_id).info.artifact_uri),
                through_mlflow=lambda folder: self._upload(folder, run_id),
            )
            made = self._client.create_model_version(name, source, run_id=run_id, tags={key: redact(tags[key]) for key in tags})
            # Another may have made one meanwhile, or we one more, whose answer was lost. Numbers are given in order, so the lowest was
            # there for all who look now, and stays.
            first = self._versions_of_pipeline_run(name, tags)[0]
            if first.version != str(made.version):
                self._client.delete_model_version(name, str(made.version))
            _log.info("version.registered", model=name, version=first.version)
            return first

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point ``alias`` at ``version``, wherever it pointed before."""
        with self._asking():
            self._client.set_registered_model_alias(name, alias, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Let ``alias`` point at nothing. One that is not there is left so."""
        with self._asking():
            self._client.delete_registered_model_alias(name, alias)

    def version(self, name: str, version: str) -> ModelVersion | None:
        """A version by its number; None where there is none."""
        with self._asking():
            missing = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for what is no number
            found = self._ignoring(missing, lambda: self._client.get_model_version(name, version))
            return _as_version(found) if found else None

    def version_of_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points at; None where there is none."""
        with self._asking():
            missing = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for an alias of a model that exists
            found = self._ignoring(missing, lambda: self._client.get_model_version_by_alias(name, alias))
            return _as_version(found) if found else None

    def model_names(self) -> list[str]:
        """Names of the registered models, a hundred at most."""
        with self._asking():
            return sorted(model.name for model in self._client.search_registered_models(max_results=100))

    def aliases(self, name: str) -> dict[str, str]:
        """What each alias of ``name`` points at; empty where there is no such model."""
        with self._asking():
            found = self._ignoring("RESOURCE_DOES_NOT_EXIST", lambda: self._client.get_registered_model(name))
            return {alias: str(version) for alias, version in sorted(found.aliases.items())} if found else {}

    def version_numbers(self, name: str) -> list[str]:
        """The versions of ``name``, oldest first, a hundred at most."""
        with self._asking():
            found = self._client.search_model_versions(f"name = '{searchable(name, 'model name')}'", max_results=_MOST_VERSIONS)
            return [str(number) for number in sorted(int(version.version) for version in found)]

    def download(self, source_uri: str, target: Path) -> None:
        """Fetch a package that :meth:`register` uploaded into the new folder ``target``, whole or not at all."""
        with self._asking(), _patient(), atomic_folder(target) as folder:
            from mlflow.artifacts import download_artifacts  # imports half of mlflow, which only a server's packages need

            fetched = Path(download_artifacts(artifact_uri=source_uri, dst_path=str(folder / "fetched"), tracking_uri=self._uri))
            for entry in list(fetched.iterdir()):
                entry.rename(folder / entry.name)
            for emptied in (fetched, folder / "fetched"):
                if emptied.is_dir():
                    emptied.rmdir()

    def _run_of_the_plugin(self) -> str | None:
        """The run that KFP's plugin made for the pipeline, at the top of those that it made inside it.

        A task's run lies below that of each group of tasks around it (an exit handler, a condition, a loop), and all steps record
        into the one run that has none above it.
        """
        run_id = os.environ.get(RUN_VARIABLE)
        if not run_id or self._uri != os.environ.get(location.TRACKING_VARIABLE):
            return None
        run, seen = self._client.get_run(run_id), {run_id}
        while (above := str(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))) and above not in seen:
            seen.add(above)
            found = self._ignoring("RESOURCE_DOES_NOT_EXIST", partial(self._client.get_run, above))
            if found is None or found.info.lifecycle_stage != LifecycleStage.ACTIVE:
                break  # MLflow takes nothing for a run that somebody deleted
            run = found
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # Without a server, MLflow's own default would be a folder below wherever the command happened to run.
            artifacts = (self._database.parent / "artifacts").as_uri() if self._database else None
            self._ignoring(
                "RESOURCE_ALREADY_EXISTS", lambda: self._client.create_experiment(name, artifact_location=artifacts, tags=_EXPERIMENT_TAGS)
            )
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise RegistryError(f"MLflow at {self.uri} neither has nor takes an experiment named {name!r}; choose another name")
        return str(found.experiment_id)

    def _versions_of_pipeline_run(self, name: str, wanted: Mapping[str, str]) -> list[ModelVersion]:
        """Lowest number first."""
        run = searchable(wanted[tags.PIPELINE_RUN_ID], "pipeline run id")
        versions = f"name = '{searchable(name, 'model name')}' and tags.`{tags.PIPELINE_RUN_ID}` = '{run}'"
        found = self._client.search_model_versions(versions, max_results=_MOST_VERSIONS)
        return sorted(map(_as_version, found), key=lambda version: int(version.version))

    def _upload(self, folder: Path, run_id: str) -> str:
        """Hand a package to the server, which keeps it among the run's artifacts."""
        with _patient():
            self._client.log_artifacts(run_id, str(folder), PACKAGE_FOLDER)
        return f"{self._client.get_run(run_id).info.artifact_uri.rstrip('/')}/{PACKAGE_FOLDER}"

    def _ignoring(self, codes: str | tuple[str, ...], ask: Callable[[], Any]) -> Any:
        """What ``ask`` answers, or None where MLflow answers with one of these error codes."""
        try:
            return ask()
        except MlflowException as error:
            if error.error_code not in codes:
                raise
            return None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn the refusals of MLflow and of what it stands on into the error tree's."""
        try:
            yield
        except OSError as error:
            full = disk_full(error, where=self.uri)
            if full is not None:
                raise full from error
            raise RegistryError(f"MLflow at {self.uri} failed ({_reason(error)}); {self._remedy()}") from error
        except Exception as error:
            # MLflow lets errors of the libraries below it through; none of these is a dependency of ours to import.
            if type(error).__module__.split(".")[0] not in _BELOW_MLFLOW:
                raise
            if "disk is full" in str(error):
                raise DiskFullError(f"no space left on the disk that holds {self.uri}; free some and run the same command again") from error
            raise RegistryError(f"MLflow at {self.uri} did not answer or refused ({_reason(error)}); {self._remedy()}") from error

    def _remedy(self) -> str:
        if location.is_server(self._uri):
            return f"check that it is up and that {location.TRACKING_VARIABLE} and its credentials are right, then run this step again"
        return f"check {location.TRACKING_VARIABLE}, then run this step again"


def _create_database(path: Path) -> None:
    """Make a SQLite file with MLflow's tables, whole or not at all: MLflow never mends one whose making was cut short."""
    if _holds_data(path):
        return
    sweep(path.parent)
    staging = path.with_name(f"{path.name}.new")
    with atomic_folder(staging) as folder:  # a folder, so that SQLite's journal is swept with it
        _log.info("database.creating")
        MlflowClient(tracking_uri=f"sqlite:///{folder / path.name}").search_experiments(max_results=1)
        if not _holds_data(path):  # another process may have been faster
            (folder / path.name).replace(path)
    shutil.rmtree(staging, ignore_errors=True)


def _holds_data(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _as_version(found: MlflowVersion) -> ModelVersion:
    return ModelVersion(
        name=found.name, version=str(found.version), source_uri=found.source or "", run_id=found.run_id or "", tags=dict(found.tags)
    )


@contextmanager
def _patient() -> Iterator[None]:
    """A server answers an upload only once its own store has taken the file: the time limit of a question is too short."""
    variable = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    usual = os.environ[variable]
    os.environ[variable] = str(max(int(usual), _UPLOAD_TIMEOUT_SECONDS))
    try:
        yield
    finally:
        os.environ[variable] = usual


def _batches(entries: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(entries)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, without credentials, short enough for a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return redact(text)[:_LONGEST_REASON]

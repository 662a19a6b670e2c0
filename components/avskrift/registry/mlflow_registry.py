"""The registry protocol over MLflow's client. The only module that imports mlflow."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, InputTag, Metric, Param, RunTag, ViewType
from mlflow.entities import DatasetInput as MlflowDatasetInput
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS

from avskrift.errors import DiskFullError, RegistryError, UsageError, disk_full
from avskrift.logs import Log, redact
from avskrift.registry import location, tags
from avskrift.registry.protocol import CurvePoint, DatasetInput, ModelVersion, RunKey, RunStatus
from avskrift.storage.atomic import atomic_folder, sweep
from avskrift.storage.door import local_path

RUN_VARIABLE = "MLFLOW_RUN_ID"
PACKAGE_FOLDER = "package"  # among a run's artifacts, where a server keeps a package that lay on this machine
# Without it MLflow's page takes the runs for evaluations of prompts.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_PARENT_RUN_TAG = "mlflow.parentRunId"
_METRICS_A_BATCH = 1000  # MLflow's limits on one request
_PARAMETERS_A_BATCH = 100
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 5000
_LONGEST_DATASET_NAME = 500
_LONGEST_DIGEST = 36
_LONGEST_SOURCE = 10_000  # MLflow's limit is on its JSON, in which a character may take six
_LONGEST_REASON = 300
_UPLOAD_TIMEOUT_SECONDS = 600
_REMOTE_SOURCE = re.compile(r"(?:[a-z]+:)?(?P<uri>(?P<scheme>https?|s3|hf)://(?P<path>[^?#]*).*)", re.DOTALL)
_UNSAFE_IN_FILTERS = frozenset("'\"`\\\n\r")

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
        """The run that KFP's MLflow plugin made, else the one tagged with the pipeline run id, else a new one.

        Raises:
            RegistryError: MLflow did not answer or refused.
            UsageError: an id or a name that MLflow cannot look up.
        """
        run_filter = f"tags.`{tags.PIPELINE_RUN_ID}` = '{_searchable(key.pipeline_run_id, 'pipeline run id')}'"
        with self._asking():
            adopted = self._run_of_the_plugin()
            if adopted:
                self._client.set_tag(adopted, tags.PIPELINE_RUN_ID, key.pipeline_run_id)
                return adopted
            experiment = self._experiment(key.experiment)
            found = self._client.search_runs([experiment], run_filter, ViewType.ACTIVE_ONLY, max_results=1, order_by=["start_time ASC"])
            if found:
                return str(found[0].info.run_id)
            run = self._client.create_run(experiment, tags={tags.PIPELINE_RUN_ID: key.pipeline_run_id}, run_name=key.pipeline_run_id)
            _log.info("run.created", run_id=run.info.run_id)
            return str(run.info.run_id)

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
            self._client.log_inputs(run_id, [_as_dataset_input(used) for used in inputs])

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
        """End the run with the status that it had."""
        with self._asking():
            self._client.set_terminated(run_id, status)

    def register(self, name: str, source_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version that this pipeline run made of ``name``; ``tags`` must hold the pipeline run id.

        A package that lies on this machine is uploaded to the run's artifacts where MLflow is a server, since a server
        refuses, and could not read, a folder of ours.

        Raises:
            RegistryError: MLflow did not answer or refused.
            UsageError: a name that MLflow does not take.
        """
        with self._asking():
            found = self._version_of_pipeline_run(name, tags)
            if found is not None:
                return found
            self._ignoring("RESOURCE_ALREADY_EXISTS", lambda: self._client.create_registered_model(name))
            source = self._place(source_uri, run_id)
            made = self._client.create_model_version(name, source, run_id=run_id, tags={key: redact(tags[key]) for key in tags})
            _log.info("version.registered", model=name, version=made.version)
            return _as_version(made)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point ``alias`` at ``version``, wherever it pointed before."""
        with self._asking():
            self._client.set_registered_model_alias(name, alias, version)

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
            found = self._client.search_model_versions(f"name = '{_searchable(name, 'model name')}'", max_results=100)
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
        """KFP's plugin gives each task a run nested in the pipeline's; all steps record into the pipeline's own."""
        run_id = os.environ.get(RUN_VARIABLE)
        if not run_id or self._uri != os.environ.get(location.TRACKING_VARIABLE):
            return None
        return str(self._client.get_run(run_id).data.tags.get(_PARENT_RUN_TAG) or run_id)

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

    def _version_of_pipeline_run(self, name: str, wanted: Mapping[str, str]) -> ModelVersion | None:
        run = _searchable(wanted[tags.PIPELINE_RUN_ID], "pipeline run id")
        versions = f"name = '{_searchable(name, 'model name')}' and tags.`{tags.PIPELINE_RUN_ID}` = '{run}'"
        found = self._client.search_model_versions(versions, max_results=1)
        return _as_version(found[0]) if found else None

    def _place(self, source_uri: str, run_id: str) -> str:
        """Where MLflow will find the package: an absolute URI."""
        folder = local_path(source_uri)
        if folder is None:
            return source_uri
        if not location.is_server(self._uri):
            return folder.absolute().as_uri()
        _log.info("package.uploading", run_id=run_id, size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
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
            if type(error).__module__.split(".")[0] not in ("mlflow", "requests", "urllib3", "sqlalchemy", "alembic"):
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


def _as_dataset_input(used: DatasetInput) -> MlflowDatasetInput:
    kind, source = _as_source([redact(uri)[:_LONGEST_SOURCE] for uri in used.sources])
    profile = {name: redact(value) if isinstance(value, str) else value for name, value in used.profile.items()}
    columns = [{"name": name, "type": of, "required": True} for name, of in used.columns.items()]
    dataset = Dataset(
        name=used.name[:_LONGEST_DATASET_NAME],
        digest=used.digest[:_LONGEST_DIGEST],
        source_type=kind,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
        profile=json.dumps(profile, ensure_ascii=False),
    )
    return MlflowDatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, used.context)])


def _as_source(uris: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """MLflow's type of a source and its fields: its page links to what it knows by these, and its API can load it."""
    if len(uris) != 1:
        return "code", {"tags": {tags.DATASET_SOURCE: " + ".join(uris)[:_LONGEST_SOURCE]}}
    match = _REMOTE_SOURCE.fullmatch(uris[0])
    if match is None:
        return "local", {"uri": uris[0]}
    if match["scheme"] == "hf":
        return "hugging_face", {"path": match["path"]}
    return ("s3", {"uri": match["uri"]}) if match["scheme"] == "s3" else ("http", {"url": match["uri"]})


def _searchable(value: str, what: str) -> str:
    """MLflow's filter language cannot escape quotes, so a value that holds one cannot be looked up."""
    if not value or _UNSAFE_IN_FILTERS.intersection(value):
        raise UsageError(f"the {what} {value!r} cannot be looked up in MLflow; use letters, digits, spaces, - _ and .")
    return value


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

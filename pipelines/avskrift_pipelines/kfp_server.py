"""A Kubeflow Pipelines server behind its v2beta1 REST API, spoken to through kfp's own generated client.

``kfp.Client`` stands on the same client. It is not used here: it has no time limits, prints, asks a server that is away for 25
seconds with a traceback for each attempt, and takes cookies and a namespace from a file that an earlier notebook may have left.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException, OpenApiException

from avskrift.errors import AvskriftError
from avskrift_pipelines.kfp_access import Access
from avskrift_pipelines.kfp_refusals import refusal

SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "CANCELED", "SKIPPED"})
_PLUGIN, _PLUGIN_LINK = "mlflow", "run_url"  # KFP 2.17's MLflow plugin, and where it leaves the page of the run that it made
_PAGE = 100
_LONGEST_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a run, in KFP's words for its state. A loop's tasks have one name."""

    name: str
    task_id: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRun:
    """A run on the server. ``mlflow_link`` is the page that KFP's MLflow plugin named; empty where it is not installed."""

    run_id: str
    name: str
    state: str
    created: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    experiment_id: str = ""
    pipeline_id: str = ""
    version_id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    mlflow_link: str = ""


class PipelinesServer:
    """Every method raises KubeflowError where the server did not answer or refused, AccessError where it does not let us."""

    def __init__(self, access: Access) -> None:
        self.access = access
        configuration = _configuration(access)
        self._api = kfp_server_api.ApiClient(configuration, cookie=access.cookies or None)
        self._runs = kfp_server_api.RunServiceApi(self._api)
        self._pipelines = kfp_server_api.PipelineServiceApi(self._api)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(self._api)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._api)
        self._health = kfp_server_api.HealthzServiceApi(self._api)
        self._limits = (min(_LONGEST_CONNECT_SECONDS, access.timeout_seconds), access.timeout_seconds)

    def multi_user(self) -> bool:
        """Whether runs belong to namespaces. The cheapest question there is: it also shows whether the server is there."""
        return bool(self._ask("say whether it is multi-user", self._health.healthz_service_get_healthz).multi_user)

    def pipeline(self, name: str) -> str | None:
        """The id of the pipeline of this name; None where there is none."""
        # Not filtered there: KFP filters by the names that are shown, and a GitOps repository may show others.
        found = self._all("list pipelines", self._pipelines.pipeline_service_list_pipelines, "pipelines", namespace=self._namespace)
        return next((str(one.pipeline_id) for one in found if name in (one.name, one.display_name)), None)

    def create_pipeline(self, name: str, description: str) -> str:
        """A new pipeline without versions; its id."""
        body = kfp_server_api.V2beta1Pipeline(display_name=name, name=name, description=description, namespace=self._namespace)
        made = self._ask(f"create the pipeline {name}", self._pipelines.pipeline_service_create_pipeline, pipeline=body)
        return str(made.pipeline_id)

    def version(self, pipeline_id: str, name: str) -> str | None:
        """The id of a pipeline's version of this name; None where there is none."""
        ask = self._pipelines.pipeline_service_list_pipeline_versions
        found = self._all("list pipeline versions", ask, "pipeline_versions", pipeline_id=pipeline_id)
        return next((str(one.pipeline_version_id) for one in found if name in (one.name, one.display_name)), None)

    def upload_version(self, pipeline_id: str, name: str, text: str) -> str:
        """A new version of a pipeline with ``text`` as its YAML; its id."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_text(text, encoding="utf-8")
            ask = self._uploads.upload_pipeline_version
            made = self._ask(f"upload the version {name}", ask, uploadfile=str(path), name=name, pipelineid=pipeline_id)
        return str(made.pipeline_version_id)

    def experiment(self, name: str) -> str | None:
        """The id of the experiment of this name; None where there is none."""
        ask = self._experiments.experiment_service_list_experiments
        found = self._all("list experiments", ask, "experiments", filter=_named(name), namespace=self._namespace)
        return next((str(one.experiment_id) for one in found if one.display_name == name), None)

    def experiments(self) -> dict[str, str]:
        """Names of the experiments by id."""
        ask = self._experiments.experiment_service_list_experiments
        found = self._all("list experiments", ask, "experiments", namespace=self._namespace)
        return {str(one.experiment_id): str(one.display_name) for one in found}

    def create_experiment(self, name: str) -> str:
        """A new experiment; its id."""
        body = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self._namespace)
        ask = self._experiments.experiment_service_create_experiment
        return str(self._ask(f"create the experiment {name}", ask, experiment=body).experiment_id)

    def create_run(self, run: ClusterRun, *, service_account: str) -> ClusterRun:
        """Start ``run``, of which the name, the experiment, the pipeline, its version and the parameters count."""
        body = kfp_server_api.V2beta1Run(
            display_name=run.name,
            experiment_id=run.experiment_id,
            pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
                pipeline_id=run.pipeline_id, pipeline_version_id=run.version_id
            ),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(run.parameters)),
            service_account=service_account or None,
        )
        return _run(self._ask("start a run", self._runs.run_service_create_run, run=body))

    def runs(self, *, experiment_id: str = "", name: str = "", limit: int) -> list[ClusterRun]:
        """Runs that are not archived, newest first, without their tasks."""
        chosen: dict[str, Any] = {"experiment_id": experiment_id} if experiment_id else {"namespace": self._namespace}
        if name:
            chosen["filter"] = _named(name)
        found: list[ClusterRun] = []
        for one in self._all("list runs", self._runs.run_service_list_runs, "runs", sort_by="created_at desc", **chosen):
            if one.storage_state != "ARCHIVED" and name in ("", one.display_name):
                found.append(_run(one))
            if len(found) == limit:
                break
        return found

    def run(self, run_id: str) -> ClusterRun:
        """A run as it is now, with its tasks."""
        return _run(self._ask(f"show the run {run_id}", self._runs.run_service_get_run, run_id=run_id))

    def cancel(self, run_id: str) -> None:
        """Ask for a run to be stopped; its exit handler still runs."""
        self._ask(f"cancel the run {run_id}", self._runs.run_service_terminate_run, run_id=run_id)

    def link(self, run_id: str) -> str:
        """The run's page."""
        return f"{self.access.page}/#/runs/details/{run_id}"

    @property
    def _namespace(self) -> str | None:
        return self.access.namespace or None

    def _all(self, what: str, ask: Callable[..., Any], entries: str, **asked: Any) -> Iterator[Any]:
        """What a list holds, page by page."""
        token = ""
        while True:
            page = self._ask(what, ask, page_size=_PAGE, page_token=token, **asked)
            yield from getattr(page, entries) or ()
            token = page.next_page_token
            if not token:
                return

    def _ask(self, what: str, ask: Callable[..., Any], **asked: Any) -> Any:
        given = {name: value for name, value in asked.items() if value is not None and value != ""}
        with self._asking(what):
            answer = ask(**given, _request_timeout=self._limits)
            said = str(self._api.last_response.data).lstrip()
            if said[:1] != "{":
                raise ApiException(status=200, reason=said)  # a page: of a login, or of another server
            return answer

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what the client raises into the error tree's."""
        try:
            yield
        except AvskriftError:
            raise
        except (OpenApiException, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            # Not "from error": what a server says may hold the token that it was sent, and --debug prints causes.
            raise refusal(error, what, self.access) from None


def _configuration(access: Access) -> kfp_server_api.Configuration:
    configuration = kfp_server_api.Configuration(host=access.host)
    configuration.verify_ssl = access.verify_tls
    configuration.ssl_ca_cert = str(access.ca_file) if access.ca_file else None
    # Again only where no connection was made: no run is created twice, and nobody waits three times for an answer.
    configuration.retries = urllib3.Retry(total=2, read=0, backoff_factor=0.2)
    if access.authenticates:
        configuration.api_key["authorization"] = "read for each request"
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = lambda current: current.api_key.update(authorization=access.token())
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings name what we report ourselves
    if not access.verify_tls:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return configuration


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _run(found: Any) -> ClusterRun:
    reference, runtime = found.pipeline_version_reference, found.runtime_config
    details = found.run_details.task_details if found.run_details else None
    return ClusterRun(
        run_id=str(found.run_id),
        name=found.display_name or "",
        state=found.state or "PENDING",
        created=found.created_at,
        ended=found.finished_at if found.state in ENDED else None,  # a running one has the year 1970
        error=_message(found.error),
        experiment_id=found.experiment_id or "",
        pipeline_id=(reference.pipeline_id or "") if reference else "",
        version_id=(reference.pipeline_version_id or "") if reference else "",
        parameters=(runtime.parameters or {}) if runtime else {},
        tasks=tuple(_task(one) for one in details or ()),
        mlflow_link=_plugin_link(found.plugins_output or {}),
    )


def _task(found: Any) -> Task:
    state = found.state or "PENDING"
    return Task(
        name=found.display_name or "",
        task_id=found.task_id or "",
        state=state,
        started=found.start_time,
        ended=found.end_time if state in ENDED else None,
        error=_message(found.error),
    )


def _plugin_link(outputs: Mapping[str, Any]) -> str:
    entries = getattr(outputs.get(_PLUGIN), "entries", None) or {}
    link = getattr(entries.get(_PLUGIN_LINK), "value", "")
    return link if isinstance(link, str) and link.startswith(("http://", "https://")) else ""


def _message(status: Any) -> str:
    return (status.message or "") if status else ""

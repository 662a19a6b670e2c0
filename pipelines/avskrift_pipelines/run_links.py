"""Where a run that was sent to a cluster is seen in MLflow."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from avskrift.errors import AvskriftError
from avskrift.registry import tags
from avskrift.registry.location import is_server, public_uri
from avskrift_pipelines.kfp_server import ClusterRun

_REACH_SECONDS = 3.0


def mlflow_link(run: ClusterRun, *, tracking_uri: str, experiment: str) -> str:
    """The run's page in MLflow or, where it cannot be known from here, how to find it there. Empty where MLflow is not named.

    An address that only the cluster knows is the usual case, so MLflow is asked only where its port answers at once.
    """
    if run.mlflow_link:
        return run.mlflow_link
    if not is_server(tracking_uri):
        return ""
    page = public_uri(tracking_uri).rstrip("/")
    if _within_reach(tracking_uri):
        from avskrift.registry.runs import open_runs  # importing mlflow takes seconds

        try:
            runs = open_runs(tracking_uri)
            found = runs.of_pipeline_run(run.run_id) if runs else None
        except AvskriftError:
            found = None  # a link is no reason to fail for
        if found:
            return f"{page}/#/experiments/{found.experiment_id}/runs/{found.run_id}"
    return f"{page} (experiment {experiment}, the run tagged {tags.PIPELINE_RUN_ID} = {run.run_id})"


def _within_reach(uri: str) -> bool:
    parts = urlsplit(uri)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=_REACH_SECONDS):
            return True
    except (OSError, ValueError):
        return False

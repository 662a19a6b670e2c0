"""A run on a cluster, followed from a terminal: what Ctrl-C and an outage mean for it, and what is printed in the end."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from avskrift.errors import InterruptedRunError, KubeflowError
from avskrift_pipelines.command.kubeflow_options import Connection, ServerOptions
from avskrift_pipelines.command.output import console
from avskrift_pipelines.kfp_server import ClusterRun
from avskrift_pipelines.run_progress import RunProgress, work
from avskrift_pipelines.submission import follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a run is followed. ``tasks`` are those worth showing; empty where the pipeline is not at hand."""

    options: ServerOptions
    tasks: Collection[str] = ()
    poll_seconds: float
    cancel_on_interrupt: bool = False


def follow_to_the_end(connection: Connection, run: ClusterRun, look: Look) -> ClusterRun:
    """Follow on standard error.

    Raises:
        InterruptedRunError: Ctrl-C; what became of the run is in the message.
        KubeflowError, AccessError: as :func:`avskrift_pipelines.submission.follow`, with how to go on.
    """
    again = f"`{_again(look.options, run.run_id)}` follows it again"
    try:
        with RunProgress(console(), look.tasks) as progress:
            return follow(connection.server, run, progress, seconds_between=look.poll_seconds, mend=connection.mend)
    except KeyboardInterrupt:
        if look.cancel_on_interrupt:
            connection.server.cancel(run.run_id)
            raise InterruptedRunError(f"stopped; the run {run.name} is being cancelled, {again}") from None
        raise InterruptedRunError(f"no longer following; the run {run.name} goes on, {again}") from None
    except KubeflowError as error:
        raise type(error)(f"{error}; the run {run.name} goes on, {again}") from error


def links(page: str, mlflow: str, options: ServerOptions) -> str:
    """Where the run is seen, for a person."""
    while_it_runs = f"   while `{options.page_hint}` runs" if options.page_hint else ""
    return f"KFP     {page}{while_it_runs}" + (f"\nMLflow  {mlflow}" if mlflow else "")


def as_json(run: ClusterRun, page: str, mlflow: str, tasks: Collection[str] = ()) -> dict[str, Any]:
    """A run as plain JSON values."""
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "state": run.state,
        "created": run.created.isoformat() if run.created else "",
        "ended": run.ended.isoformat() if run.ended else "",
        "tasks": [{"name": task.name, "state": task.state, "error": task.error} for task in work(run.tasks, tasks)],
        "kfp": page,
        "mlflow": mlflow,
    }


def _again(options: ServerOptions, run_id: str) -> str:
    """The command that follows the run. A secret is not in it: a token that was given as one has to be given again."""
    words = ["avskrift", "runs", *(["--port-forward"] if options.port_forward else ["--host", options.host]), "--follow", run_id]
    named = {
        "--namespace": options.namespace,
        "--token-file": options.token_file,
        "--ca-cert": options.ca_cert,
        "--kube-context": options.kube_context,
        "--kfp-namespace": options.kfp_namespace if options.kfp_namespace != ServerOptions().kfp_namespace else "",
    }
    words += [word for name, value in named.items() if value for word in (name, str(value))]
    return shlex.join(words if options.verify_tls else [*words, "--no-verify-tls"])

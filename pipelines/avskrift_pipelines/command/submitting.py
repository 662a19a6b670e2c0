"""``avskrift submit``: a pipeline to a cluster's Kubeflow Pipelines, and a run of it followed to its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avskrift_pipelines.command.kubeflow_options import ServerOptions, connected, with_server_options
from avskrift_pipelines.command.output import JsonFlag, print_result, say

if TYPE_CHECKING:
    from avskrift_pipelines.run_parameters import Field
    from avskrift_pipelines.submission import Submitted

_WAITING = "Waiting"
_OURS = "avskrift-"  # as our pipelines' names begin; another's parameters may mean something else


@with_server_options
def submit(
    server: ServerOptions,
    pipeline: Annotated[str, typer.Argument(help="A pipeline's name, as fine_tune, or a compiled YAML file.", show_default=False)],
    param: Annotated[
        list[str],
        typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the pipeline; again for another. JSON for lists and objects."),
    ] = [],  # noqa: B006 - typer makes a new one
    params_file: Annotated[Path | None, typer.Option(help="Parameters in YAML or JSON; --param wins over it.", show_default=False)] = None,
    experiment: Annotated[
        str, typer.Option(help="Experiment in KFP, and in MLflow too where the pipeline has a parameter of that name.", show_default=False)
    ] = "",
    run_name: Annotated[
        str,
        typer.Option(
            help="Name of the run. One of that name that goes on or succeeded is followed, not started again.", show_default=False
        ),
    ] = "",
    service_account: Annotated[str, typer.Option(help="Kubernetes service account of the run's pods.", show_default=False)] = "",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Let steps reuse the results of earlier runs.")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.", rich_help_panel=_WAITING)] = True,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="On Ctrl-C cancel the run; otherwise it goes on.", rich_help_panel=_WAITING)
    ] = False,
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the run.", rich_help_panel=_WAITING)] = 5.0,
    json_: JsonFlag = False,
) -> None:
    """Run a pipeline on a cluster: upload it if its content is new, start a run, follow it. Exit code 0 only if the run succeeded.

    Parameters are held against the pipeline's form before anything is sent. Ctrl-C leaves the run going.
    """
    from avskrift_pipelines.command.following import Look, as_json, follow_to_the_end, links
    from avskrift_pipelines.meaning import check_meaning
    from avskrift_pipelines.pipeline_source import read_pipeline
    from avskrift_pipelines.run_links import mlflow_link
    from avskrift_pipelines.run_parameters import read_parameters
    from avskrift_pipelines.submission import Wish, check_success
    from avskrift_pipelines.submission import submit as send

    source = read_pipeline(pipeline, caching=cache)
    parameters = read_parameters(source.form, param, params_file)
    if source.name.startswith(_OURS):
        check_meaning(source.form, parameters)
    if experiment and "experiment" in source.form:
        parameters.setdefault("experiment", experiment)
    wish = Wish(
        pipeline=source,
        parameters=parameters,
        experiment=experiment or str(_value(source.form, parameters, "experiment") or "avskrift"),
        run_name=run_name,
        service_account=service_account,
    )
    with connected(server) as connection:
        submitted = send(connection.server, wish)
        link = connection.server.link(submitted.run.run_id)
        _say_what_was_sent(submitted, link)
        run = submitted.run
        if wait:
            look = Look(options=server, tasks=source.tasks, poll_seconds=poll_seconds, cancel_on_interrupt=cancel_on_interrupt)
            run = follow_to_the_end(connection, run, look)
    tracking_uri = str(_value(source.form, parameters, "tracking_uri") or "")
    mlflow = mlflow_link(run, tracking_uri=tracking_uri, experiment=str(_value(source.form, parameters, "experiment") or ""))
    value = as_json(run, link, mlflow, source.tasks) | {
        "pipeline": source.name,
        "version": submitted.version,
        "uploaded": submitted.uploaded,
        "found": submitted.found,
        "experiment": wish.experiment,
    }
    print_result(links(link, mlflow, server), value, as_json=json_)
    if wait:
        check_success(run, link)


def _say_what_was_sent(submitted: Submitted, link: str) -> None:
    version = f"version {submitted.version}: {'uploaded' if submitted.uploaded else 'is there already'}"
    run = f"run {submitted.run.name}: {'is there already' if submitted.found else 'started'}"
    say(f"{version}\n{run}\n{link}")


def _value(form: Mapping[str, Field], parameters: Mapping[str, Any], name: str) -> Any:
    """What a parameter is in the run, where the pipeline has it."""
    return parameters.get(name, form[name].default) if name in form else None

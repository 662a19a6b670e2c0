"""``avskrift runs``: the runs of this machine, of MLflow, and of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from avskrift.errors import RegistryError, UsageError
from avskrift.storage.paths import home
from avskrift_pipelines.command.comparing import out, rate
from avskrift_pipelines.command.kubeflow_options import ServerOptions, connected, with_server_options
from avskrift_pipelines.command.output import JsonFlag, print_result, say
from avskrift_pipelines.command.steps import Tracking

if TYPE_CHECKING:
    from avskrift.registry.runs import RunRecord
    from avskrift_pipelines.kfp_server import ClusterRun, PipelinesServer
    from avskrift_pipelines.local_runs import LocalRunRecord

_HERE, _MLFLOW, _KFP = "here", "MLflow", "KFP"
_SHORT = 8
_WHOLE_ID = 36  # characters of KFP's
_NEWEST = 200  # runs among which the beginning of an id is looked for
_STYLES = {"failed": "red", "killed": "red", "running": "cyan", "rejected": "yellow", "passed": "green"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One run, however many places know it. ``run`` is what `compare` takes. Rates are fractions; ``started`` is seconds since 1970."""

    run: str
    where: tuple[str, ...]
    experiment: str
    state: str
    base_model: str
    wer: float | None = None
    wer_interval: tuple[float, float] | None = None
    gate: str = ""
    versions: tuple[str, ...] = ()
    started: float | None
    pipeline_run_id: str
    mlflow_run_id: str = ""
    link: str = ""


@with_server_options
def runs(
    server: ServerOptions,
    experiment: Annotated[str, typer.Option(help="Only runs of this experiment.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest.")] = 20,
    tracking_uri: Tracking = "",
    follow: Annotated[
        str, typer.Option(metavar="RUN", help="With --host or --port-forward: follow this run of KFP to its end.", show_default=False)
    ] = "",
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="With --follow: seconds between two looks at the run.")] = 5.0,
    json_: JsonFlag = False,
) -> None:
    """List runs, newest first: of this machine, of MLflow, and with --host or --port-forward of Kubeflow Pipelines too."""
    if follow:
        _follow(server, follow, poll_seconds, as_json=json_)
        return
    here = _of_this_machine(experiment, limit)
    on_cluster = _of_kubeflow(server, experiment, limit) if server.host or server.port_forward else []
    recorded = _of_mlflow(tracking_uri, experiment, limit, alone=not (here or on_cluster))
    found = _joined([*here, *on_cluster, *recorded])[:limit]
    if json_:
        print_result("", [asdict(one) for one in found], as_json=True)
    elif not found and experiment:
        print_result(f"no runs in an experiment {experiment!r}", [], as_json=False)
    elif not found:
        print_result("no runs yet; `avskrift run` starts one here, `avskrift submit` one on a cluster", [], as_json=False)
    else:
        out().print(_table(found))


def _follow(options: ServerOptions, run_id: str, poll_seconds: float, *, as_json: bool) -> None:
    from avskrift_pipelines.command.following import Look, follow_to_the_end, links
    from avskrift_pipelines.command.following import as_json as values
    from avskrift_pipelines.run_links import mlflow_link
    from avskrift_pipelines.submission import check_success

    with connected(options) as connection:
        run = connection.server.run(_whole_id(connection.server, run_id))
        link = connection.server.link(run.run_id)
        run = follow_to_the_end(connection, run, Look(options=options, poll_seconds=poll_seconds))
    asked = {name: str(run.parameters.get(name, "")) for name in ("tracking_uri", "experiment")}
    mlflow = mlflow_link(run, tracking_uri=asked["tracking_uri"], experiment=asked["experiment"])
    print_result(links(link, mlflow, options), values(run, link, mlflow), as_json=as_json)
    check_success(run, link)


def _whole_id(server: PipelinesServer, run_id: str) -> str:
    """The id that begins so, of a run among the newest; what is none is left for the server to refuse."""
    if len(run_id) >= _WHOLE_ID:
        return run_id
    alike = [run.run_id for run in server.runs(limit=_NEWEST) if run.run_id.startswith(run_id)]
    if len(alike) > 1:
        raise UsageError(f"--follow {run_id}: {len(alike)} runs begin so; write more of the id")
    return alike[0] if alike else run_id


def _of_this_machine(experiment: str, limit: int) -> list[Listed]:
    from avskrift_pipelines.local_runs import local_runs

    return [_local(one) for one in local_runs(home()) if experiment in ("", one.parameters.get("experiment"))][:limit]


def _of_mlflow(tracking_uri: str, experiment: str, limit: int, *, alone: bool) -> list[Listed]:
    from avskrift.registry.runs import open_runs  # imports mlflow, which takes seconds

    try:
        recorded = open_runs(tracking_uri)
        return [_recorded(one) for one in recorded.newest(experiment=experiment, limit=limit)] if recorded else []
    except RegistryError as error:
        if alone:
            raise
        say(f"MLflow's runs are left out: {error}")  # the address may be one that only the cluster knows
        return []


def _of_kubeflow(options: ServerOptions, experiment: str, limit: int) -> list[Listed]:
    with connected(options) as connection:
        server = connection.server
        names = server.experiments()
        chosen = next((number for number, name in names.items() if name == experiment), "")
        if experiment and not chosen:
            return []
        found = server.runs(experiment_id=chosen, limit=limit)
        return [_on_cluster(one, names.get(one.experiment_id, ""), server.link(one.run_id)) for one in found]


def _local(one: LocalRunRecord) -> Listed:
    return Listed(
        run=one.name,
        where=(_HERE,),
        experiment=str(one.parameters.get("experiment", "")),
        state=one.state,
        base_model=str(one.parameters.get("base_model", "")),
        wer=one.wer,
        wer_interval=one.wer_interval,
        gate=one.gate,
        started=one.started,
        pipeline_run_id=one.name,
    )


def _recorded(one: RunRecord) -> Listed:
    return Listed(
        run=one.run_id[:_SHORT],
        where=(_MLFLOW,),
        experiment=one.experiment,
        state={"FINISHED": "succeeded"}.get(one.status, one.status.lower()),
        base_model=one.base_model,
        wer=one.figures.get("wer"),
        wer_interval=one.interval("wer"),
        gate=one.gate,
        versions=one.versions,
        started=one.started,
        pipeline_run_id=one.pipeline_run_id,
        mlflow_run_id=one.run_id,
    )


def _on_cluster(one: ClusterRun, experiment: str, link: str) -> Listed:
    return Listed(
        run=one.run_id[:_SHORT],
        where=(_KFP,),
        experiment=experiment,
        state=one.state.lower(),
        base_model=str(one.parameters.get("base_model", "")),
        started=one.created.timestamp() if one.created else None,
        pipeline_run_id=one.run_id,
        link=link,
    )


def _joined(found: Iterable[Listed]) -> list[Listed]:
    """One entry for each run, newest first: the places have the pipeline run's id in common."""
    by_id: dict[str, Listed] = {}
    for one in found:
        key = one.pipeline_run_id or one.mlflow_run_id
        by_id[key] = _both(by_id[key], one) if key in by_id else one
    return sorted(by_id.values(), key=lambda one: one.started or 0.0, reverse=True)


def _both(first: Listed, second: Listed) -> Listed:
    """What ``first`` says, and of the rest what ``second`` does."""
    missing = {one.name: getattr(second, one.name) for one in fields(first) if getattr(first, one.name) in ("", None, ())}
    run = second.run if first.where == (_KFP,) else first.run  # what `compare` takes
    return replace(first, **missing | {"run": run, "where": (*first.where, *second.where)})


def _table(found: Iterable[Listed]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for heading in ("run", "where", "experiment", "state", "base model", "WER", "gate", "version", "started"):
        whole = heading in ("run", "state", "WER", "gate", "started")
        table.add_column(heading, overflow="fold", no_wrap=whole, justify="right" if heading == "WER" else "left")
    for one in found:
        started = datetime.fromtimestamp(one.started).astimezone().strftime("%Y-%m-%d %H:%M") if one.started else "-"
        table.add_row(
            Text(one.run),
            Text(", ".join(one.where)),
            Text(one.experiment or "-"),
            Text(one.state, style=_STYLES.get(one.state, "")),
            Text(one.base_model or "-"),
            Text(rate(one.wer, one.wer_interval)),
            Text(one.gate or "-", style=_STYLES.get(one.gate, "")),
            Text(", ".join(one.versions) or "-"),
            Text(started),
        )
    return table

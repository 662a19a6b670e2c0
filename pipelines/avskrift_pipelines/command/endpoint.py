"""The commands around the model at work: serve, status, stop, rollback."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.deployment import local
from avskrift.deployment.cluster import Cluster, connect
from avskrift.deployment.cluster_status import as_lines, cluster_status
from avskrift.errors import AvskriftError, UsageError
from avskrift.registry.location import public_uri
from avskrift.registry.location import tracking_uri as registry_uri
from avskrift.registry.protocol import CHAMPION
from avskrift.storage.paths import home
from avskrift_pipelines.command.cluster_options import Context, Force, Kubeconfig, Namespace, ReadyTimeout, ServiceName, ServiceUrl
from avskrift_pipelines.command.output import JsonFlag, print_result
from avskrift_pipelines.runs import latest_run


def serve(
    package: Annotated[str, typer.Option(help="Package or model URI.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8085,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="The model's name in URLs.")] = "avskrift",
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve gRPC too, on this TCP port; 0 takes a free one.", show_default=False)
    ] = None,
) -> None:
    """Serve a model in the foreground until Ctrl-C. KServe's protocols and OpenAI's audio route."""
    from avskrift.serving.__main__ import leave
    from avskrift.serving.server import serve as run_server
    from avskrift.whisper.export import as_package

    run_server(as_package(package).folder, name=name, host=host, port=port, grpc_port=grpc_port)
    leave(0)


def stop(json_: JsonFlag = False) -> None:
    """Stop the endpoint that deploy started on this machine."""
    stopped = local.stop(home())
    print_result("stopped" if stopped else "no endpoint was running", {"stopped": stopped}, as_json=json_)


def rollback(
    cluster: Annotated[bool, typer.Option("--cluster", help="On a cluster; a local endpoint has no version before on record.")] = False,
    service_name: ServiceName = "avskrift",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    smoke_audio: Annotated[Path | None, typer.Option(help="A recording of speech to try the endpoint with.")] = None,
    service_url: ServiceUrl = "",
    ready_timeout: ReadyTimeout = 0.0,
    force: Force = False,
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's address.")] = "",
    json_: JsonFlag = False,
) -> None:
    """Serve again what served before the version that serves now, and move champion there."""
    if not cluster:
        raise UsageError("where? Give --cluster; on this machine, deploy the version that you want with `avskrift deploy --version`")
    from avskrift.steps.deploy import step as deploying

    back = deploying.rollback(
        deploying.Config(
            model_name="",
            version="",
            out="",
            target="kserve",
            service_name=service_name,
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            smoke_audio=smoke_audio,
            canary="none",
            service_url=service_url,
            ready_timeout_s=ready_timeout,
            force=force,
            tracking_uri=tracking_uri,
        )
    )
    text = f"version {back.version} of {back.model_name} answers at {back.url} again, in place of {back.replaced or '?'}, and is champion"
    value = {"url": back.url, "model": back.model_name, "version": back.version, "replaced": back.replaced}
    print_result(text, value, as_json=json_)


def status(
    cluster: Annotated[bool, typer.Option("--cluster", help="Show the services of a cluster instead.")] = False,
    service_name: Annotated[str, typer.Option(help="One service of the cluster; all that deploy made by default.")] = "",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's address, for the champion.")] = "",
    json_: JsonFlag = False,
) -> None:
    """Show the endpoint, the last run, and how to open MLflow's page; with --cluster, the services there."""
    if cluster:
        _status_of_cluster(connect(context=context, namespace=namespace, kubeconfig=kubeconfig), service_name, tracking_uri, json_)
    else:
        _status_here(json_)


def _status_here(json_: bool) -> None:
    endpoint = local.status(home())
    run = latest_run(home())
    uri = registry_uri()
    value: dict[str, Any] = {
        "home": str(home()),
        "endpoint": asdict(endpoint) if endpoint else None,
        "last_run": {"folder": str(run[0]), "state": run[1]} if run else None,
        "mlflow": public_uri(uri),
    }
    serving = f"{endpoint.state} at {endpoint.url}, version {endpoint.version}, process {endpoint.pid}" if endpoint else "none"
    lines = [
        f"state folder  {home()}",
        f"endpoint      {serving}",
        f"last run      {f'{run[1]}, {run[0]}' if run else 'none'}",
        f"MLflow        {public_uri(uri)}",
        f"its page      {_how_to_open(uri)}",
    ]
    print_result("\n".join(lines), value, as_json=json_)


def _status_of_cluster(cluster: Cluster, service: str, uri: str, json_: bool) -> None:
    services = cluster_status(cluster, service)
    champions = {found.model_name: _champion(found.model_name, uri) for found in services if found.model_name}
    blocks = ["\n".join(as_lines(found, champions.get(found.model_name, "not known"))) for found in services]
    value = [asdict(found) | {"champion": champions.get(found.model_name, "")} for found in services]
    print_result("\n\n".join(blocks) or f"deploy made no service in {cluster.namespace} at {cluster.server}", value, as_json=json_)


def _champion(model_name: str, uri: str) -> str:
    """What the registry says; a registry that is away keeps nobody from seeing the services."""
    from avskrift.registry.mlflow_registry import open_registry

    try:
        found = open_registry(uri).version_of_alias(model_name, CHAMPION)
    except AvskriftError as error:
        return f"not known ({error})"
    return f"version {found.version}" if found else "none"


def _how_to_open(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        return public_uri(uri)
    mlflow = Path(sys.executable).parent / "mlflow"
    return f"{mlflow} ui --backend-store-uri {public_uri(uri)} --port 5000   then open http://127.0.0.1:5000"

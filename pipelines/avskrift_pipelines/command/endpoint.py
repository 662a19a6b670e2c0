"""The commands around the model at work: serve, status, stop."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.deployment import local
from avskrift.registry.location import public_uri
from avskrift.registry.location import tracking_uri as registry_uri
from avskrift.storage.paths import home
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
    from avskrift.serving.server import serve as run_server
    from avskrift.whisper.export import as_package

    run_server(as_package(package).folder, name=name, host=host, port=port, grpc_port=grpc_port)


def stop(json_: JsonFlag = False) -> None:
    """Stop the endpoint that deploy started on this machine."""
    stopped = local.stop(home())
    print_result("stopped" if stopped else "no endpoint was running", {"stopped": stopped}, as_json=json_)


def status(json_: JsonFlag = False) -> None:
    """Show the endpoint, the last run, and how to open MLflow's page."""
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


def _how_to_open(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        return public_uri(uri)
    mlflow = Path(sys.executable).parent / "mlflow"
    return f"{mlflow} ui --backend-store-uri {public_uri(uri)} --port 5000   then open http://127.0.0.1:5000"

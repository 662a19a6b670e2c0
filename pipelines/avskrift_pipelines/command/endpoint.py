"""The commands around the model at work: serve, transcribe, status, stop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.deployment import client, local
from avskrift.errors import UsageError
from avskrift.registry.location import public_uri
from avskrift.registry.location import tracking_uri as registry_uri
from avskrift.serving.formats import FORMATS, TIMED_FORMATS, check_format, render
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift_pipelines.command.output import JsonFlag, print_result, say
from avskrift_pipelines.runs import latest_run

_RECORDINGS = Annotated[list[Path], typer.Argument(help="WAV, FLAC, MP3 or Ogg files.", show_default=False)]


def transcribe(
    files: _RECORDINGS,
    model: Annotated[str, typer.Option(help="Package or model URI; the endpoint's package, else whisper-base, by default.")] = "",
    endpoint: Annotated[str, typer.Option(help="Ask a running server at this URL instead of loading a model.")] = "",
    language: Annotated[str, typer.Option(help="The recordings' language; identified where not given.")] = "",
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    service_name: Annotated[str, typer.Option(help="The model's name at the endpoint.")] = "avskrift",
) -> None:
    """Transcribe recordings, here or through a running endpoint."""
    check_format(format_)
    code = check_language(language) if language else ""
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file; give the path of a recording")
    texts = (
        _through(endpoint.rstrip("/"), files, code, format_, service_name)
        if endpoint
        else _here(model or _default_model(), files, code, format_)
    )
    for file, text in zip(files, texts, strict=True):
        if len(files) > 1:
            say(f"{file}:")
        print(text.rstrip("\n"), flush=True)


def serve(
    package: Annotated[str, typer.Option(help="Package or model URI.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8085,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="The model's name in URLs.")] = "avskrift",
) -> None:
    """Serve a model in the foreground until Ctrl-C. KServe's protocols and OpenAI's audio route."""
    from avskrift.serving.server import serve as run_server
    from avskrift.whisper.export import as_package

    run_server(as_package(package).folder, name=name, host=host, port=port)


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


def _default_model() -> str:
    deployed = local.status(home())
    return deployed.package if deployed else "package:whisper-base"


def _here(model: str, files: list[Path], language: str, format_: str) -> Iterator[str]:
    from avskrift.audio.decode import decode_file
    from avskrift.whisper.export import as_package
    from avskrift.whisper.transcriber import load_transcriber
    from avskrift.whisper.transcript import Options

    package = as_package(model)
    package.verify()
    engine = load_transcriber(package)
    options = Options(language=language or None, timestamps="segment" if format_ in TIMED_FORMATS else "none")
    for file in files:
        rendered = render(engine.transcribe([decode_file(file)], options)[0], check_format(format_))
        yield rendered if isinstance(rendered, str) else _json(rendered)


def _through(url: str, files: list[Path], language: str, format_: str, service_name: str) -> Iterator[str]:
    for file in files:
        suffix = file.suffix.removeprefix(".").lower() or "wav"
        yield client.ask(url, file.read_bytes(), file_type=suffix, model=service_name, language=language, response_format=format_)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)

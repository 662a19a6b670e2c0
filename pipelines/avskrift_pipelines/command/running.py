"""``avskrift run``: the whole pipeline on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.deployment import local as deployment
from avskrift.errors import ModelUnavailableError, UsageError
from avskrift.evaluation.gate import Policy
from avskrift.storage.atomic import write_json
from avskrift.storage.door import fetch, local_path
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.training.config import TrainingConfig
from avskrift_pipelines.command.output import JsonFlag, console, print_result
from avskrift_pipelines.command.steps import Source, Tracking

EMBEDDED_MODEL = "package:whisper-base"
_TRAINING = TrainingConfig()
_POLICY = Policy()


def run(
    source: Source = "demo:",
    language: Annotated[str, typer.Option(help="The recordings' language, by Whisper's code or in English.")] = "sv",
    base_model: Annotated[
        str, typer.Option(help="Model to start from: hub id, folder, `s3://`, `models:/` or `package:` URI.")
    ] = EMBEDDED_MODEL,
    baseline: Annotated[str, typer.Option(help="Model to beat, by any model URI; the base model by default.")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the train split.")] = 2,
    max_steps: Annotated[int, typer.Option(min=0, help="Stop training after so many steps; 0 for all epochs.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; 0 for the one that suits the model's size.")] = 0.0,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio in a training step.")] = _TRAINING.batch_seconds,
    packed_share: Annotated[float, typer.Option(help="Share of clips trained inside packed windows.")] = _TRAINING.packed_share,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Minutes between checkpoints, from which a stopped run goes on.")
    ] = _TRAINING.checkpoint_minutes,
    seed: Annotated[int, typer.Option(help="Decides the order of training.")] = _TRAINING.seed,
    max_clips: Annotated[int, typer.Option(min=0, help="Use only so many clips; 0 for all.")] = 0,
    on_missing: Annotated[str, typer.Option(help="A recording without transcript, or the reverse: `fail` or `skip`.")] = "fail",
    max_rejected: Annotated[float, typer.Option(help="Share of clips that may be refused.")] = 0.05,
    max_wer: Annotated[float, typer.Option(help="Highest word error rate that passes the gate, as a fraction.")] = 0.5,
    require_better: Annotated[bool, typer.Option(help="Must the model beat the baseline beyond chance?")] = _POLICY.require_better,
    minimum_clips: Annotated[int, typer.Option(help="Fewest test clips that the gate decides on.")] = _POLICY.minimum_clips,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "avskrift",
    model_name: Annotated[str, typer.Option(help="Registered model; `avskrift-LANGUAGE` by default.")] = "",
    tracking_uri: Tracking = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the endpoint.")] = 8085,
    summary: Annotated[Path | None, typer.Option(help="Write the summary as JSON to this file.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Recordings in, an answering endpoint out: every step of the pipeline on this machine.

    A run that was stopped goes on from its last checkpoint when the same command is given again. A model that the gate
    refuses is recorded in MLflow with the reasons; the endpoint stays what it was, and the exit code is 0.
    """
    from avskrift_pipelines.local import run_locally
    from avskrift_pipelines.narrator import Narrator
    from avskrift_pipelines.summary import as_json, show, summarise

    code = check_language(language)
    parameters: dict[str, Any] = {
        "source": _absolute(source),
        "language": code,
        "base_model": _absolute(base_model),
        "baseline": _absolute(baseline or base_model),
        "epochs": epochs,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "batch_seconds": batch_seconds,
        "packed_share": packed_share,
        "checkpoint_minutes": checkpoint_minutes,
        "seed": seed,
        "max_clips": max_clips,
        "on_missing": on_missing,
        "max_rejected": max_rejected,
        "max_wer": max_wer,
        "require_better": require_better,
        "minimum_clips": minimum_clips,
        "experiment": experiment,
        "model_name": model_name or f"avskrift-{code}",
        "tracking_uri": tracking_uri,
        "deploy_target": "local",
        "port": port,
    }
    _check_before_the_first_minute(parameters, summary)
    out = console()
    out.print(f"Running the pipeline: {parameters['source']} in {code}, from {parameters['base_model']}", highlight=False)
    outcome = summarise(run_locally(parameters, Narrator(out)))
    if summary is not None:
        write_json(summary, as_json(outcome.summary))
    show(outcome, out)
    if json_:
        print_result("", as_json(outcome.summary), as_json=True)


def _absolute(uri: str) -> str:
    """Steps run in folders of their own, so paths of this one are spelled out; hub ids and other schemes stay."""
    path = local_path(uri)
    return str(path.absolute()) if path is not None and path.exists() else uri


def _check_before_the_first_minute(parameters: dict[str, Any], summary: Path | None) -> None:
    """What a later step would refuse after minutes of work is refused now, by the same code."""
    from avskrift.steps.prepare import step as preparing

    if summary is not None and summary.is_dir():
        raise UsageError(f"--summary {summary} is a folder; give the name of a file")
    preparing.check_source(parameters["source"], language=parameters["language"], on_missing=parameters["on_missing"])
    for uri in {parameters["base_model"], parameters["baseline"]}:
        if not any((fetch(uri) / name).is_file() for name in ("config.json", "model.json")):
            raise ModelUnavailableError(f"{uri}: no config.json; give a folder that transformers' save_pretrained wrote")
    TrainingConfig(**{name: parameters[name] for name in ("learning_rate", "batch_seconds", "packed_share", "checkpoint_minutes")})
    deployment.check_port(home(), parameters["port"])

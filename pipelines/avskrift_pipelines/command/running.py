"""``avskrift run``: the whole pipeline on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.deployment import local as deployment
from avskrift.errors import ModelUnavailableError, UsageError
from avskrift.evaluation.check_names import CHECKS, read_checks
from avskrift.evaluation.decision import asked_override
from avskrift.evaluation.policy import Policy
from avskrift.storage.atomic import write_json
from avskrift.storage.door import fetch, local_path
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.training.config import TrainingConfig
from avskrift_pipelines.command.output import JsonFlag, console, print_result
from avskrift_pipelines.command.policy_options import with_policy_options
from avskrift_pipelines.command.steps import (
    DEMO,
    Exclude,
    MaxClips,
    MaxRejected,
    OnMissing,
    OnOverlap,
    Source,
    Tracking,
    ValidatedRemainder,
)
from avskrift_pipelines.command.training_options import CheckpointsPlace, TrainingWords, checkpoints_place, read_words

EMBEDDED_MODEL = "package:whisper-base"
# Of training, those with an option of their own; all others are named by --training.
_MAIN_OPTIONS = ("epochs", "max_steps", "learning_rate", "batch_seconds", "packed_share", "checkpoint_minutes", "seed")
_TRAINING = TrainingConfig()


# whisper-base after minutes on a laptop is not what the pipeline's default asks of a model to serve.
@with_policy_options(defaults=Policy(max_wer=0.5))
def run(
    policy: Policy,
    source: Source = DEMO,
    language: Annotated[str, typer.Option(help="The recordings' language, by Whisper's code or in English.")] = "sv",
    base_model: Annotated[
        str, typer.Option(help="Model to start from: hub id, folder, `s3://`, `models:/` or `package:` URI.")
    ] = EMBEDDED_MODEL,
    baseline: Annotated[
        str, typer.Option(help="Model to beat, by any model URI; by default the one that serves today, or the base model where none does.")
    ] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the train split.")] = 2,
    max_steps: Annotated[int, typer.Option(min=0, help="Stop training after so many steps; 0 for all epochs.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; 0 for the one that suits the model's size.")] = 0.0,
    batch_seconds: Annotated[
        float, typer.Option(help="Seconds of audio in a training step; 0 for what suits the data.")
    ] = _TRAINING.batch_seconds,
    packed_share: Annotated[float, typer.Option(help="Share of clips trained inside packed windows.")] = _TRAINING.packed_share,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Minutes between checkpoints, from which a stopped run goes on.")
    ] = _TRAINING.checkpoint_minutes,
    seed: Annotated[int, typer.Option(help="Decides the order of training.")] = _TRAINING.seed,
    training_options: TrainingWords = [],  # noqa: B006 - typer makes a new one
    checkpoints: CheckpointsPlace = "",
    validated_remainder: ValidatedRemainder = False,
    exclude: Exclude = "",
    max_clips: MaxClips = 0,
    prepare_parts: Annotated[int, typer.Option(min=1, help="Read the recordings in so many parts, as on a cluster.")] = 1,
    on_missing: OnMissing = "fail",
    on_overlap: OnOverlap = "fail",
    max_rejected: MaxRejected = 0.05,
    checks: Annotated[str, typer.Option(help="What to measure beside the error rates; empty for nothing.")] = ",".join(CHECKS),
    retention_dataset: Annotated[str, typer.Option(help="A second dataset, on which the base model must not be much better.")] = "",
    override_by: Annotated[str, typer.Option(help="Who promotes the model although a bound is not kept. Recorded.")] = "",
    override_reason: Annotated[str, typer.Option(help="Why. Recorded.")] = "",
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
    from avskrift.corpus.sources.uris import absolute

    code = check_language(language)
    asked_override(override_by, override_reason)  # half of one is refused at once
    parameters: dict[str, Any] = {
        "source": absolute(" + ".join(source)),
        "language": code,
        "base_model": _absolute(base_model),
        "baseline": _absolute(baseline) if baseline else "",
        "epochs": epochs,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "batch_seconds": batch_seconds,
        "packed_share": packed_share,
        "checkpoint_minutes": checkpoint_minutes,
        "seed": seed,
        "training_options": read_words(training_options),
        "checkpoints": checkpoints_place(checkpoints) or str(home() / "checkpoints"),  # kfp.local ends a workspace with its run
        "gpus": "0",  # all that this machine has
        "validated_remainder": validated_remainder,
        "exclude": _absolute(exclude) if exclude else "",
        "max_clips": max_clips,
        "prepare_parts": prepare_parts,
        "on_missing": on_missing,
        "on_overlap": on_overlap,
        "max_rejected": max_rejected,
        "checks": ",".join(read_checks(checks)),
        "retention_dataset": _absolute(retention_dataset) if retention_dataset else "",
        **asdict(policy),
        "override_by": override_by,
        "override_reason": override_reason,
        "experiment": experiment,
        "model_name": model_name or f"avskrift-{code}",
        "tracking_uri": tracking_uri,
        "deploy_target": "local",
        "port": port,
    }
    _check_before_the_first_minute(parameters, summary)
    # Seconds of imports, which who is to mend a parameter need not wait for.
    from avskrift_pipelines.fine_tune import fine_tune_pipeline
    from avskrift_pipelines.local import run_locally
    from avskrift_pipelines.narrator import Narrator
    from avskrift_pipelines.summary import as_json, show, summarise

    out = console()
    out.print(f"Running the pipeline: {parameters['source']} in {code}, from {parameters['base_model']}", highlight=False)
    outcome = summarise(run_locally(fine_tune_pipeline, parameters, Narrator(out)))
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

    TrainingConfig(**{name: parameters[name] for name in _MAIN_OPTIONS} | parameters["training_options"])
    if summary is not None and summary.is_dir():
        raise UsageError(f"--summary {summary} is a folder; give the name of a file")
    preparing.check(preparing.Config(out="", **{name: parameters[name] for name in ("source", "on_overlap", "max_rejected", "max_clips")}))
    preparing.check_source(
        parameters["source"],
        language=parameters["language"],
        on_missing=parameters["on_missing"],
        on_overlap=parameters["on_overlap"],
        validated_remainder=parameters["validated_remainder"],
    )
    if parameters["exclude"]:
        preparing.check_excluded(parameters["exclude"])
    for uri in {parameters["base_model"], parameters["baseline"]} - {""}:
        if not any((fetch(uri) / name).is_file() for name in ("config.json", "model.json")):
            raise ModelUnavailableError(f"{uri}: no config.json; give a folder that transformers' save_pretrained wrote")
    deployment.check_port(home(), parameters["port"])

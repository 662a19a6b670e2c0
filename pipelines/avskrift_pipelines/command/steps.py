"""The commands that do one step each, on folders that the caller names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avskrift.errors import GateRefusedError
from avskrift.evaluation.gate import Policy, decision_as_json, explain
from avskrift.steps.images import image
from avskrift.training.config import TrainingConfig
from avskrift_pipelines.command.output import JsonFlag, print_result

Out = Annotated[Path, typer.Option(help="Folder to write; replaced whole if it holds an older result.")]
Source = Annotated[str, typer.Option(help="Recordings with transcripts: `demo:`, a folder, or a manifest (.jsonl, .csv, .tsv).")]
Tracking = Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's address; SQLite in the state folder by default.")]
_TRAINING = TrainingConfig()
_POLICY = Policy()


def prepare(
    out: Out,
    source: Source = "demo:",
    language: Annotated[str, typer.Option(help="The recordings' language, by Whisper's code or in English.")] = "sv",
    on_missing: Annotated[str, typer.Option(help="A recording without transcript, or the reverse: `fail` or `skip`.")] = "fail",
    max_rejected: Annotated[float, typer.Option(help="Share of clips that may be refused.")] = 0.05,
    max_clips: Annotated[int, typer.Option(min=0, help="Use only so many clips; 0 for all.")] = 0,
    json_: JsonFlag = False,
) -> None:
    """Turn recordings with transcripts into a dataset folder: validated, speaker-disjoint, sharded."""
    from avskrift.steps.prepare import step as preparing

    config = preparing.Config(
        source=source, out=out, language=language, on_missing=on_missing, max_rejected=max_rejected, max_clips=max_clips
    )
    result = preparing.run(config)
    lines = [
        f"{name:<10} {split.clips:6} clips  {split.hours:7.2f} h  {split.speakers:4} speakers" for name, split in result.splits.items()
    ]
    refused = {str(code): count for code, count in result.rejected.items()}
    lines.append(
        f"{'rejected':<10} {sum(refused.values()):6} clips  {', '.join(f'{code} {count}' for code, count in refused.items())}".rstrip()
    )
    value = {
        "dataset": str(out),
        "fingerprint": result.fingerprint,
        "splits": {k: asdict(v) for k, v in result.splits.items()},
        "rejected": refused,
    }
    print_result("\n".join([*lines, f"dataset    {out}"]), value, as_json=json_)


def fine_tune(
    dataset: Annotated[Path, typer.Option(help="A dataset folder that prepare wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the model in transformers' format.")],
    report: Annotated[Path | None, typer.Option(help="Folder for training.json and curves.jsonl; OUT-training by default.")] = None,
    base_model: Annotated[str, typer.Option(help="Hub id, folder, `s3://`, `models:/` or `package:` URI.")] = "package:whisper-base",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the train split.")] = _TRAINING.epochs,
    max_steps: Annotated[int, typer.Option(min=0, help="Stop after so many steps; 0 for all epochs.")] = _TRAINING.max_steps,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; 0 for the one that suits the model's size.")] = 0.0,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio in a step.")] = _TRAINING.batch_seconds,
    packed_share: Annotated[float, typer.Option(help="Share of clips trained inside packed windows.")] = _TRAINING.packed_share,
    checkpoint_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = _TRAINING.checkpoint_minutes,
    seed: Annotated[int, typer.Option(help="Decides order and batches.")] = _TRAINING.seed,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = _TRAINING.device,
    json_: JsonFlag = False,
) -> None:
    """Fine-tune a Whisper; the best model by validation WER is kept. Resumes where a stopped run left off."""
    from avskrift.steps.fine_tune import step as fine_tuning

    training = TrainingConfig(
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=learning_rate,
        batch_seconds=batch_seconds,
        packed_share=packed_share,
        checkpoint_minutes=checkpoint_minutes,
        seed=seed,
        device=device,
    )
    story = report or out.with_name(f"{out.name}-training")
    result = fine_tuning.run(fine_tuning.Config(dataset=dataset, base_model=base_model, out=out, report=story, training=training)).training
    text = f"validation WER {result.best_wer:.3f} at step {result.best_step} of {result.steps}\nmodel  {out}\nreport {story}"
    figures = {name: value for name, value in asdict(result).items() if name != "curve"}
    print_result(text, {"model": str(out), "report": str(story)} | figures, as_json=json_)


def export(
    model: Annotated[Path, typer.Option(help="A model folder that fine-tune wrote.")],
    training: Annotated[Path, typer.Option(help="The training report beside it.")],
    out: Out,
    json_: JsonFlag = False,
) -> None:
    """Write the model package: hf/, ct2/, model.json with a sha256 of every file, and a model card."""
    from avskrift.steps.export import step as exporting

    result = exporting.run(exporting.Config(model=model, training=training, out=out))
    print_result(f"package {out}\nsha256  {result.sha256}", {"package": str(out), "sha256": result.sha256}, as_json=json_)


def evaluate(
    package: Annotated[str, typer.Option(help="The model package to measure.")],
    dataset: Annotated[Path, typer.Option(help="A dataset folder that prepare wrote.")],
    out: Out,
    baseline: Annotated[str, typer.Option(help="The model to compare with, by any model URI.")] = "package:whisper-base",
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "test",
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = "auto",
    json_: JsonFlag = False,
) -> None:
    """Measure a package and a baseline on the same clips, through the engine that serves."""
    from avskrift.evaluation.result import evaluation_as_json
    from avskrift.steps.evaluate import step as evaluating

    config = evaluating.Config(package_uri=package, dataset=dataset, baseline_uri=baseline, out=out, split=split, device=device)
    measured = evaluating.run(config).evaluation
    lines = [
        f"WER {score.wer.value:6.1%}  [{score.wer.low:.1%}, {score.wer.high:.1%}]  CER {score.cer.value:6.1%}  {name}"
        for name, score in (("baseline", measured.baseline), ("candidate", measured.candidate))
    ]
    print_result("\n".join([*lines, f"report {out / 'report.html'}"]), evaluation_as_json(measured), as_json=json_)


def gate(
    evaluation: Annotated[Path, typer.Option(help="The folder that evaluate wrote.")],
    package: Annotated[Path, typer.Option(help="The package that would be promoted.")],
    out: Out,
    max_wer: Annotated[float, typer.Option(help="Highest word error rate, as a fraction.")] = _POLICY.max_wer,
    require_better: Annotated[bool, typer.Option(help="Must the package beat the baseline beyond chance?")] = _POLICY.require_better,
    minimum_clips: Annotated[int, typer.Option(help="Fewest test clips to decide on.")] = _POLICY.minimum_clips,
    json_: JsonFlag = False,
) -> None:
    """Decide whether a package may be promoted. Exit code 0: it may; 50: it may not, and why."""
    from avskrift.steps.gate import step as gating
    from avskrift.whisper.package import open_package

    config = gating.Config(
        evaluation=evaluation,
        package_sha256=open_package(package).description.sha256,
        out=out,
        max_wer=max_wer,
        require_better=require_better,
        minimum_clips=minimum_clips,
    )
    decision = gating.run(config).decision
    print_result(explain(decision), decision_as_json(decision), as_json=json_)
    if not decision.passed:
        raise typer.Exit(GateRefusedError.exit_code)


def register(
    package: Annotated[str, typer.Option(help="URI of the package.")],
    evaluation: Annotated[Path, typer.Option(help="The folder that evaluate wrote.")],
    decision: Annotated[Path, typer.Option(help="The folder that gate wrote.")],
    run_id: Annotated[str, typer.Option(help="Names this registration; the same id gives the same version again.")],
    training: Annotated[Path | None, typer.Option(help="The training report, for parameters and curves.")] = None,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "avskrift-sv",
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "avskrift",
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Record a run in MLflow and register its package as a version, with the alias challenger."""
    from avskrift.steps.register import step as registering

    result = registering.run(
        registering.Config(
            package_uri=package,
            evaluation=evaluation,
            gate=decision,
            training=training,
            model_name=model_name,
            experiment=experiment,
            pipeline_run_id=run_id,
            tracking_uri=tracking_uri,
        )
    )
    value = {"model": result.model_name, "version": result.version, "uri": result.uri, "run": result.run_id}
    print_result(f"{result.uri} is challenger", value, as_json=json_)


def deploy(
    version: Annotated[str, typer.Option(help="The version to serve.")],
    out: Out,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "avskrift-sv",
    target: Annotated[str, typer.Option(help="`local` starts a server here; `kserve` writes the InferenceService.")] = "local",
    smoke_audio: Annotated[Path | None, typer.Option(help="A recording of speech to try the endpoint with.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of a local endpoint.")] = 8085,
    service_name: Annotated[str, typer.Option(help="The model's name in URLs.")] = "avskrift",
    namespace: Annotated[str, typer.Option(help="Namespace of the InferenceService.")] = "default",
    serving_image: Annotated[str, typer.Option(help="Image of the InferenceService.")] = "",
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Serve a registered version; champion moves only after the endpoint passed a smoke transcription."""
    from avskrift.steps.deploy import step as deploying

    result = deploying.run(
        deploying.Config(
            model_name=model_name,
            version=version,
            out=out,
            target=target,
            smoke_audio=smoke_audio,
            port=port,
            service_name=service_name,
            namespace=namespace,
            image=serving_image or image("serving"),
            tracking_uri=tracking_uri,
        )
    )
    text = f"version {version} answers at {result.url} and is champion" if result.promoted else f"manifest {result.manifest}; not applied"
    value = {"url": result.url, "version": version, "promoted": result.promoted, "manifest": str(result.manifest or "")}
    print_result(text, value, as_json=json_)

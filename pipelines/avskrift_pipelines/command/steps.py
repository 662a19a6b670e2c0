"""The commands that do one step each, on folders that the caller names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avskrift.errors import GateRefusedError, UsageError
from avskrift.evaluation.check_names import CHECKS, read_checks
from avskrift.evaluation.decision_file import decision_as_json, explained, explained_briefly
from avskrift.evaluation.policy import Policy
from avskrift.steps.deploy.config import STAGES
from avskrift.steps.images import image
from avskrift.training.config import TrainingConfig
from avskrift_pipelines.command.cluster_options import Context, Force, Kubeconfig, Namespace, ReadyTimeout, ServiceName, ServiceUrl
from avskrift_pipelines.command.output import JsonFlag, print_result, say
from avskrift_pipelines.command.policy_options import with_policy_options
from avskrift_pipelines.command.training_options import CheckpointsPlace, checkpoints_place, with_training_options

Out = Annotated[Path, typer.Option(help="Folder to write; replaced whole if it holds an older result.")]
Source = Annotated[
    list[str],
    typer.Option(
        help="Recordings with transcripts: `demo:`, a folder, a manifest (.jsonl, .csv, .tsv), `commonvoice:RELEASE.tar.gz`, "
        "`hf://ORG/NAME?config=...` or `parquet:PATH`. Give it again for several sources; `2*SOURCE` counts twice in training."
    ),
]
ValidatedRemainder = Annotated[
    bool, typer.Option("--validated-remainder", help="Of Common Voice, train on the validated clips that are in no split too.")
]
Exclude = Annotated[str, typer.Option(help="A dataset whose validation and test are kept out of train and validation.")]
OnMissing = Annotated[str, typer.Option(help="A recording without transcript, or the reverse: `fail` or `skip`.")]
OnOverlap = Annotated[str, typer.Option(help="Named splits that share speakers, sentences or recordings: `fail` or `hold-back`.")]
MaxRejected = Annotated[float, typer.Option(help="Share of clips that may be refused.")]
MaxClips = Annotated[int, typer.Option(min=0, help="Use only so many clips, always the same ones; 0 for all.")]
DEMO = ["demo:"]
Tracking = Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's address; SQLite in the state folder by default.")]


def prepare(
    out: Out,
    source: Source = DEMO,
    language: Annotated[str, typer.Option(help="The recordings' language, by Whisper's code or in English.")] = "sv",
    validated_remainder: ValidatedRemainder = False,
    exclude: Exclude = "",
    on_missing: OnMissing = "fail",
    on_overlap: OnOverlap = "fail",
    max_rejected: MaxRejected = 0.05,
    max_clips: MaxClips = 0,
    workers: Annotated[int, typer.Option(min=0, help="Decoding processes; 0 for one on each core.")] = 0,
    json_: JsonFlag = False,
) -> None:
    """Turn recordings with transcripts into a dataset folder: validated, speaker-disjoint, sharded.

    A stopped run goes on where it was when the same command is given again.
    """
    from avskrift.steps.prepare import step as preparing

    config = preparing.Config(
        source=" + ".join(source),
        out=out,
        language=language,
        validated_remainder=validated_remainder,
        exclude=exclude,
        on_missing=on_missing,
        on_overlap=on_overlap,
        max_rejected=max_rejected,
        max_clips=max_clips,
        workers=workers,
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


@with_training_options
def fine_tune(
    dataset: Annotated[Path, typer.Option(help="A dataset folder that prepare wrote; its language is the model's.")],
    out: Annotated[Path, typer.Option(help="Folder for the model in transformers' format.")],
    training: TrainingConfig,
    report: Annotated[Path | None, typer.Option(help="Folder for training.json, curves and report.html; OUT-training by default.")] = None,
    base_model: Annotated[str, typer.Option(help="Hub id, folder, `s3://`, `models:/` or `package:` URI.")] = "package:whisper-base",
    checkpoints: CheckpointsPlace = "",
    run_id: Annotated[str, typer.Option(help="Send figures to MLflow while it trains, to the run of this id; none by default.")] = "",
    experiment: Annotated[str, typer.Option(help="MLflow experiment of that run.")] = "avskrift",
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Fine-tune a Whisper; the best model by validation WER is kept. Resumes where a stopped run left off.

    Every GPU of the machine trains. Each option is explained in docs/training.md.
    """
    place = checkpoints_place(checkpoints)
    from avskrift.steps.fine_tune import step as fine_tuning

    story = report or out.with_name(f"{out.name}-training")
    config = fine_tuning.Config(
        dataset=dataset,
        base_model=base_model,
        out=out,
        report=story,
        checkpoints=place or None,
        training=training,
        experiment=experiment,
        pipeline_run_id=run_id,
        tracking_uri=tracking_uri,
    )
    result = fine_tuning.run(config).training
    text = f"validation WER {result.best_wer:.3f} at step {result.best_step} of {result.steps}\nmodel  {out}\nreport {story}"
    figures = {name: value for name, value in asdict(result).items() if name not in ("curve", "examples", "speed")} | asdict(result.speed)
    print_result(text, {"model": str(out), "report": str(story)} | figures, as_json=json_)


def export(
    model: Annotated[Path, typer.Option(help="A model folder that fine-tune wrote.")],
    training: Annotated[Path, typer.Option(help="The training report beside it.")],
    out: Out,
    dataset: Annotated[
        Path | None, typer.Option(help="What it was trained on: the converted model must write of its clips what the model writes.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Write the model package: hf/, ct2/, model.json with a sha256 of every file, and a model card."""
    from avskrift.steps.export import step as exporting

    result = exporting.run(exporting.Config(model=model, training=training, out=out, dataset=dataset))
    compared = result.package.description.round_trip
    told = f"{compared.different} of {compared.words} words differ from hf/" if compared else "not compared with hf/, which takes --dataset"
    value = {"package": str(out), "sha256": result.sha256, "round_trip": asdict(compared) if compared else None}
    print_result(f"package {out}\nsha256  {result.sha256}\nct2/    {told}", value, as_json=json_)


def evaluate(
    package: Annotated[str, typer.Option(help="The model package to measure.")],
    dataset: Annotated[Path, typer.Option(help="A dataset folder that prepare wrote.")],
    out: Out,
    baseline: Annotated[str, typer.Option(help="The model to compare with, by any model URI.")] = "package:whisper-base",
    other: Annotated[list[str] | None, typer.Option(help="One more model to measure beside the two; give it again for more.")] = None,
    language: Annotated[str, typer.Option(help="Whisper's code or English name; the dataset's by default.")] = "",
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "test",
    checks: Annotated[str, typer.Option(help="What else to measure, with commas between; empty for nothing.")] = ",".join(CHECKS),
    retention_dataset: Annotated[
        str, typer.Option(help="A second dataset, on which the package is compared with the model that it was trained from.")
    ] = "",
    cache: Annotated[bool, typer.Option(help="Keep what each model heard, and use what is kept.")] = True,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = "auto",
    json_: JsonFlag = False,
) -> None:
    """Measure a package, a baseline and others on the same clips, through the engine that serves."""
    from avskrift.evaluation.result_file import evaluation_as_json
    from avskrift.steps.evaluate import step as evaluating

    config = evaluating.Config(
        package_uri=package,
        dataset=dataset,
        baseline_uri=baseline,
        out=out,
        others=other or (),
        language=language or None,
        split=split,
        checks=read_checks(checks),
        retention_dataset=retention_dataset,
        use_cache=cache,
        device=device,
    )
    measured = evaluating.run(config).evaluation
    named = [("baseline", measured.baseline), ("candidate", measured.candidate)]
    named += [(f"other {number}", score) for number, score in enumerate(measured.others, start=1)]
    lines = [
        f"WER {score.wer.value:6.1%}  [{score.wer.low:.1%}, {score.wer.high:.1%}]  CER {score.cer.value:6.1%}  {name}"
        for name, score in named
    ]
    difference = measured.wer_difference
    lines.append(f"candidate minus baseline {difference.value:+.1%}  [{difference.low:+.1%}, {difference.high:+.1%}]")
    print_result("\n".join([*lines, f"report {out / 'report.html'}"]), evaluation_as_json(measured), as_json=json_)


@with_policy_options(defaults=Policy())
def gate(
    evaluation: Annotated[Path, typer.Argument(metavar="RESULT", help="The folder that evaluate wrote.")],
    policy: Policy,
    out: Annotated[Path | None, typer.Option(help="Folder for the decision. Left out, --explain is a look that decides nothing.")] = None,
    package: Annotated[Path | None, typer.Option(help="The package that would be promoted; its files are checked.")] = None,
    package_sha256: Annotated[str, typer.Option(help="Its sha256 instead, which export printed.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show every rule, not only those that failed.")] = False,
    override_by: Annotated[str, typer.Option(help="Who promotes it although a bound is not kept. Recorded.")] = "",
    override_reason: Annotated[str, typer.Option(help="Why. Recorded.")] = "",
    json_: JsonFlag = False,
) -> None:
    """Decide whether a package may be promoted. Exit code 0: it may; 50: it may not, and why.

    With --explain and nothing to write it is a look at the rules, for whoever writes a policy.

    Each bound is explained in docs/gate.md.
    """
    from avskrift.steps.gate import step as gating

    if out is None:
        if not explain or package or package_sha256 or override_by or override_reason:
            raise UsageError("where shall the decision go? Give a folder with --out; or --explain alone, for a look that writes nothing")
        seen = gating.look(evaluation, policy)
        print_result(explained(seen), decision_as_json(seen), as_json=json_)
        say("A look: nothing was written, and no package was held against the evaluation. Give --package and --out for a decision.")
        raise typer.Exit(0 if seen.passed else GateRefusedError.exit_code)
    config = gating.Config(
        evaluation=evaluation,
        package_sha256=_identity(package, package_sha256),
        out=out,
        policy=policy,
        override_by=override_by,
        override_reason=override_reason,
    )
    decision = gating.run(config).decision
    print_result(explained(decision) if explain else explained_briefly(decision), decision_as_json(decision), as_json=json_)
    if not decision.passed:
        raise typer.Exit(GateRefusedError.exit_code)


def _identity(package: Path | None, sha256: str) -> str:
    """The sha256 of the package to promote, from its own bytes where they are here."""
    from avskrift.whisper.package import open_package

    if package is None:
        if not sha256:
            raise UsageError("which package? Give it with --package, or its sha256, which export printed, with --package-sha256")
        return sha256
    opened = open_package(package)
    opened.verify()
    found = opened.description.sha256
    if sha256 not in ("", found):
        raise UsageError(f"{package} has sha256 {found}, not {sha256}; give the package that was exported")
    return found


def register(
    package: Annotated[str, typer.Option(help="URI of the package.")],
    evaluation: Annotated[Path, typer.Option(help="The folder that evaluate wrote.")],
    decision: Annotated[Path, typer.Option(help="The folder that gate wrote.")],
    run_id: Annotated[str, typer.Option(help="Names this registration; the same id gives the same version again.")],
    training: Annotated[Path | None, typer.Option(help="The training report, for parameters and curves.")] = None,
    dataset_card: Annotated[Path | None, typer.Option(help="The dataset folder, to record as the run's input.")] = None,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "avskrift-sv",
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "avskrift",
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Record a run in MLflow and register its package as a version, with the alias challenger. The run is closed then."""
    from avskrift.steps.finalize import step as finalizing
    from avskrift.steps.register import step as registering

    result = registering.run(
        registering.Config(
            package_uri=package,
            evaluation=evaluation,
            gate=decision,
            training=training,
            dataset_card=dataset_card,
            model_name=model_name,
            experiment=experiment,
            pipeline_run_id=run_id,
            tracking_uri=tracking_uri,
        )
    )
    # In a pipeline finalize does it; by hand nothing more is recorded.
    finalizing.run(finalizing.Config(pipeline_run_id=run_id, experiment=experiment, status="SUCCEEDED", tracking_uri=tracking_uri))
    value = {"model": result.model_name, "version": result.version, "uri": result.uri, "run": result.run_id}
    print_result(f"{result.uri} is challenger", value, as_json=json_)


def deploy(
    version: Annotated[str, typer.Option(help="The version to serve.")],
    out: Out,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "avskrift-sv",
    target: Annotated[
        str, typer.Option(help="`local` starts a server here; `kserve` applies the InferenceService; `manifest` only writes it.")
    ] = "local",
    smoke_audio: Annotated[Path | None, typer.Option(help="A recording of speech to try the endpoint with.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of a local endpoint.")] = 8085,
    service_name: ServiceName = "avskrift",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    serving_image: Annotated[str, typer.Option(help="Image of the InferenceService.")] = "",
    package: Annotated[str, typer.Option(help="Where the cluster finds the package; where the registry says, by default.")] = "",
    cpu: Annotated[str, typer.Option(help="CPUs of a predictor.")] = "2",
    memory: Annotated[str, typer.Option(help="Memory of a predictor.")] = "4Gi",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a predictor.")] = 0,
    min_replicas: Annotated[int, typer.Option(min=0, help="The fewest predictors.")] = 1,
    max_replicas: Annotated[int, typer.Option(min=1, help="The most predictors.")] = 1,
    service_account: Annotated[str, typer.Option(help="Account whose secret reads the package's store.")] = "",
    mode: Annotated[str, typer.Option(help="KServe's: `standard` or `knative`.")] = "standard",
    autoscaler: Annotated[str, typer.Option(help="Autoscaler class: `hpa`, `keda`, `external`, `none`; KServe's default if empty.")] = "",
    grpc: Annotated[bool, typer.Option("--grpc", help="Offer gRPC on port 8081 too.")] = False,
    canary: Annotated[str, typer.Option(help="Percents of the traffic, stage by stage; `none` replaces the version at once.")] = STAGES,
    watch: Annotated[float, typer.Option(min=0, help="Seconds to watch each stage.")] = 60.0,
    max_error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of failed answers above which the canary goes back.")] = 0.02,
    max_latency_ratio: Annotated[float, typer.Option(min=1, help="How many times the latency of before is too slow.")] = 2.0,
    service_url: ServiceUrl = "",
    ready_timeout: ReadyTimeout = 0.0,
    force: Force = False,
    tracking_uri: Tracking = "",
    json_: JsonFlag = False,
) -> None:
    """Serve a registered version; champion moves only after the endpoint passed a smoke transcription.

    On a cluster the version takes the traffic in stages and goes back by itself if it is worse: docs/deploying.md.
    """
    from avskrift.steps.deploy import step as deploying

    result = deploying.run(
        deploying.Config(
            model_name=model_name,
            version=version,
            out=out,
            package_uri=package,
            target=target,
            smoke_audio=smoke_audio,
            port=port,
            service_name=service_name,
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            image=serving_image or image("serving"),
            cpu=cpu,
            memory=memory,
            gpus=gpus,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            service_account=service_account,
            mode=mode,
            autoscaler=autoscaler,
            grpc=grpc,
            canary=canary,
            watch_s=watch,
            max_error_rate=max_error_rate,
            max_latency_ratio=max_latency_ratio,
            service_url=service_url,
            ready_timeout_s=ready_timeout,
            force=force,
            tracking_uri=tracking_uri,
        )
    )
    text = f"version {version} answers at {result.url} and is champion" if result.promoted else f"manifest {result.manifest}; not applied"
    value = {"url": result.url, "version": version, "promoted": result.promoted, "manifest": str(result.manifest or "")}
    print_result(text, value, as_json=json_)

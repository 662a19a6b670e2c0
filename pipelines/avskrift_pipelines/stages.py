"""The stretches of the line that several pipelines share. Each adds its tasks to the pipeline that is being built."""

from __future__ import annotations

from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.pipeline_task import PipelineTask

from avskrift.steps.deploy.component import deploy
from avskrift.steps.evaluate.component import evaluate
from avskrift.steps.export.component import export
from avskrift.steps.finalize.component import finalize
from avskrift.steps.find_baseline.component import find_baseline
from avskrift.steps.fine_tune.component import fine_tune
from avskrift.steps.gate.component import gate
from avskrift.steps.images import ROLES, image
from avskrift.steps.list_parts.component import list_parts
from avskrift.steps.prepare.component import prepare
from avskrift.steps.read_part.component import read_part
from avskrift.steps.register.component import register
from avskrift.steps.reject.component import reject
from avskrift_pipelines.form import Given
from avskrift_pipelines.placement import acting, place, place_on_gpus, with_keys

PASSED = "passed"
RUN_ID = dsl.PIPELINE_JOB_ID_PLACEHOLDER


def closing(given: Given) -> PipelineTask:
    """The exit task: MLflow's run is closed with the truth, however this one ended."""
    return place(with_keys(acting(finalize(pipeline_run_id=RUN_ID, **given.to(finalize))), given, "mlflow"), "ops")


def prepared(given: Given, **changed: Any) -> PipelineTask:
    """Recordings, read in parts side by side and merged into a dataset. ``changed`` wins over what the form says."""
    listing = list_parts(**(given.to(list_parts) | {"parts": given.prepare_parts} | _of(list_parts, changed)))
    listed = place(
        with_keys(listing, given, "store", "hub"), "data", retries=1
    )  # mostly it fails over a wrong path, which its author should hear of soon
    with dsl.ParallelFor(listed.output, name="parts") as part:
        read = read_part(**(given.to(read_part) | {"part": part, "parts": given.prepare_parts} | _of(read_part, changed)))
        place(with_keys(read, given, "store", "hub"), "data", cpu="4", memory="4Gi", hours=24)
    merged = prepare(**(given.to(prepare) | {"parts": dsl.Collected(read.outputs["staged"])} | _of(prepare, changed)))
    return place(with_keys(merged, given, "store"), "data", cpu="2", memory="8Gi", hours=12)


def trained(given: Given, dataset: PipelineChannel, **changed: Any) -> PipelineTask:
    """Fine-tuning on one node. Where no place for checkpoints is named, a new try finds them in the run's workspace."""
    task = fine_tune(
        **given.to(fine_tune) | {"options": given.training_options, "workspace": dsl.WORKSPACE_PATH_PLACEHOLDER} | changed,
        dataset=dataset,
    )
    return place_on_gpus(task, given)


def exported(model: PipelineChannel, training: PipelineChannel, dataset: PipelineChannel) -> PipelineTask:
    """The trained model as a package."""
    return place(
        export(model=model, training=training, dataset=dataset),
        "serving",
        cpu="4",
        memory="16Gi",
        hours=4,
    )


def measured(given: Given, package: PipelineChannel, dataset: PipelineChannel, **arguments: Any) -> PipelineTask:
    """A package on a dataset, through the engine that serves."""
    task = with_keys(evaluate(package=package, dataset=dataset, **arguments), given, "store", "hub")
    return place(task, "serving", cpu="8", memory="16Gi", hours=24)


def to_beat(given: Given, *, after: PipelineTask | None = None, **changed: Any) -> PipelineTask:
    """What serves today, asked late: it may change in the hours of training."""
    asking = with_keys(find_baseline(**given.to(find_baseline) | changed), given, "store", "mlflow")
    found = place(acting(asking), "ops")
    return found.after(after) if after is not None else found


def judged(given: Given, evaluation: PipelineTask, package_sha256: PipelineChannel) -> PipelineTask:
    """The gate's decision on a measurement."""
    return place(gate(evaluation=evaluation.outputs["evaluation"], package_sha256=package_sha256, **given.to(gate)), "data")


def from_dataset_to_endpoint(given: Given, data: PipelineTask, **changed: Any) -> None:
    """The line itself: train, and the rest of it. ``changed`` is what training takes otherwise."""
    model = trained(given, data.outputs["dataset"], **changed)
    from_model_to_endpoint(given, data, model.outputs["model"], model.outputs["training"])


def from_model_to_endpoint(given: Given, data: PipelineTask, model: PipelineChannel, training: PipelineChannel) -> None:
    """The line after training: export, measure, judge, and publish what is better. ``training`` is the story of the model."""
    dataset = data.outputs["dataset"]
    package = exported(model, training, dataset)
    evaluation = compared(given, package.outputs["package"], dataset, to_beat(given, after=package))
    published(
        given,
        package_uri=package.outputs["package_uri"],
        package_sha256=package.outputs["package_sha256"],
        evaluation=evaluation,
        decided=judged(given, evaluation, package.outputs["package_sha256"]),
        training=training,
        data=data,
    )


def compared(given: Given, package: PipelineChannel, dataset: PipelineChannel, baseline: PipelineTask) -> PipelineTask:
    """A package on the test split beside its baseline, with the checks that the form names."""
    beside = {"baseline_uri": baseline.outputs["uri"], "baseline_sha256": baseline.outputs["package_sha256"]}
    return measured(given, package, dataset, **beside, checks=given.checks, retention_dataset=given.retention_dataset)


def published(
    given: Given,
    *,
    package_uri: PipelineChannel,
    package_sha256: PipelineChannel,
    evaluation: PipelineTask,
    decided: PipelineTask,
    training: PipelineChannel,
    data: PipelineTask,
) -> None:
    """What passed is registered and deployed; what did not is recorded with the reasons."""
    evidence = {
        "package_uri": package_uri,
        "evaluation": evaluation.outputs["evaluation"],
        "decision": decided.outputs["decision"],
        "dataset_card": data.outputs["card"],
        "training": training,
        "pipeline_run_id": RUN_ID,
        "images": {role: image(role) for role in ROLES},  # by which MLflow says in what the steps ran
    }
    with dsl.If(decided.outputs["Output"] == PASSED, name="passed"):
        registered = register(package_sha256=package_sha256, **evidence, **given.to(register))
        place(with_keys(acting(registered), given, "store", "mlflow"), "ops", memory="4Gi")
        deployed = deploy(
            package_uri=package_uri,
            version=registered.output,
            sample=data.outputs["sample"],
            target=given.deploy_target,
            serving_image=image("serving"),
            cpu=given.endpoint_cpu,
            memory=given.endpoint_memory,
            gpus=given.endpoint_gpus,
            **given.to(deploy, but=["gpus"]),  # the form's are those of training
        )
        # Once: a rollout that failed has gone back by itself, and is for a person to look at.
        place(with_keys(acting(deployed), given, "mlflow"), "ops", memory="4Gi", hours=3, retries=0)
    with dsl.Else(name="rejected"):
        place(with_keys(acting(reject(**evidence, **given.to(reject))), given, "mlflow"), "ops", memory="4Gi")


def _of(component: Any, changed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changed.items() if name in component.component_spec.inputs}

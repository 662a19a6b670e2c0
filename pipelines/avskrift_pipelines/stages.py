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
from avskrift.steps.images import image
from avskrift.steps.list_parts.component import list_parts
from avskrift.steps.prepare.component import prepare
from avskrift.steps.read_part.component import read_part
from avskrift.steps.register.component import register
from avskrift.steps.reject.component import reject
from avskrift_pipelines.form import Given
from avskrift_pipelines.placement import acting, place, place_on_gpus

PASSED = "passed"
RUN_ID = dsl.PIPELINE_JOB_ID_PLACEHOLDER


def closing(given: Given) -> PipelineTask:
    """The exit task: MLflow's run is closed with the truth, however this one ended."""
    return place(acting(finalize(pipeline_run_id=RUN_ID, **given.to(finalize))), "ops")


def prepared(given: Given, **changed: Any) -> PipelineTask:
    """Recordings, read in parts side by side and merged into a dataset. ``changed`` wins over what the form says."""
    listed = place(list_parts(**(given.to(list_parts) | {"parts": given.prepare_parts} | _of(list_parts, changed))), "data")
    with dsl.ParallelFor(listed.output, name="parts") as part:
        read = read_part(**(given.to(read_part) | {"part": part, "parts": given.prepare_parts} | _of(read_part, changed)))
        place(read, "data", cpu="4", memory="4Gi", hours=24)
    merged = prepare(**(given.to(prepare) | {"parts": dsl.Collected(read.outputs["staged"])} | _of(prepare, changed)))
    return place(merged, "data", cpu="2", memory="8Gi", hours=12)


def trained(given: Given, dataset: PipelineChannel, **changed: Any) -> PipelineTask:
    """Fine-tuning on one node. Where no place for checkpoints is named, a new try finds them in the run's workspace."""
    task = fine_tune(
        **given.to(fine_tune)
        | {"options": given.training_options, "workspace": dsl.WORKSPACE_PATH_PLACEHOLDER}
        | changed,
        dataset=dataset,
    )
    return place_on_gpus(task, given)


def exported(model: PipelineTask, dataset: PipelineChannel) -> PipelineTask:
    """The trained model as a package."""
    return place(
        export(model=model.outputs["model"], training=model.outputs["training"], dataset=dataset),
        "serving",
        cpu="4",
        memory="16Gi",
        hours=4,
    )


def measured(package: PipelineChannel, dataset: PipelineChannel, **arguments: Any) -> PipelineTask:
    """A package on a dataset, through the engine that serves."""
    return place(evaluate(package=package, dataset=dataset, **arguments), "serving", cpu="8", memory="16Gi", hours=24)


def to_beat(given: Given, *, after: PipelineTask | None = None, **changed: Any) -> PipelineTask:
    """What serves today, asked late: it may change in the hours of training."""
    found = place(acting(find_baseline(**given.to(find_baseline) | changed)), "ops")
    return found.after(after) if after is not None else found


def judged(given: Given, evaluation: PipelineTask, package_sha256: PipelineChannel) -> PipelineTask:
    """The gate's decision on a measurement."""
    return place(gate(evaluation=evaluation.outputs["evaluation"], package_sha256=package_sha256, **given.to(gate)), "data")


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
    }
    with dsl.If(decided.outputs["Output"] == PASSED, name="passed"):
        registered = register(package_sha256=package_sha256, **evidence, **given.to(register))
        place(acting(registered), "ops", memory="4Gi")
        deployed = deploy(
            package_uri=package_uri,
            version=registered.output,
            sample=data.outputs["sample"],
            target=given.deploy_target,
            serving_image=image("serving"),
            **given.to(deploy, but=["gpus"]),  # the form's are those of training
        )
        # Once: a rollout that failed has gone back by itself, and is for a person to look at.
        place(acting(deployed), "ops", memory="4Gi", hours=3, retries=0)
    with dsl.Else(name="rejected"):
        place(acting(reject(**evidence, **given.to(reject))), "ops", memory="4Gi")


def _of(component: Any, changed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changed.items() if name in component.component_spec.inputs}

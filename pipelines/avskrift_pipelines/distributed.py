"""The main line with its training on several nodes: a TrainJob of Kubeflow Trainer in place of one step's own pod."""

from __future__ import annotations

from kfp import dsl
from kfp.dsl.pipeline_task import PipelineTask

from avskrift.steps.images import image
from avskrift.steps.train_on_nodes.component import train_on_nodes
from avskrift_pipelines import parameters, stages
from avskrift_pipelines.form import Given, group, pipeline
from avskrift_pipelines.placement import CONFIG_WITHOUT_WORKSPACE, knowing_its_run, place, with_keys

_RETRIES = 3
_LONGEST_HOURS = 24 * 31  # of the step that waits; the parameter train_hours ends training itself


def _trained_on_nodes(given: Given, data: PipelineTask) -> PipelineTask:
    """Its pod waits for the TrainJob, whose nodes write to MLflow's run of this one; a new try goes on waiting for the same job."""
    task = train_on_nodes(
        dataset_uri=data.outputs["dataset_uri"],
        train_image=image("train"),
        options=given.training_options,
        **given.to(train_on_nodes),
    )
    return place(with_keys(knowing_its_run(task), given, "mlflow"), "ops", hours=_LONGEST_HOURS, retries=_RETRIES)


@pipeline(
    "avskrift-distributed",
    parameters.RECORDINGS,
    group(parameters.REFRESH, parameters.BASE_MODEL),
    parameters.TRAINING_ON_NODES,
    parameters.NODES,
    group(parameters.OUTPUT),
    parameters.MEASURING,
    parameters.GATE,
    parameters.REGISTRY,
    parameters.SECRETS,
    parameters.DEPLOYMENT,
    config=CONFIG_WITHOUT_WORKSPACE,
)
def distributed_pipeline(given: Given) -> None:
    """Fine-tunes on several nodes at once with Kubeflow Trainer; otherwise as the main pipeline, through the same gate to the endpoint."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        data = stages.prepared(given)
        trained = _trained_on_nodes(given, data)
        model = dsl.importer(artifact_uri=trained.outputs["model_uri"], artifact_class=dsl.Model)
        training = dsl.importer(artifact_uri=trained.outputs["training_uri"], artifact_class=dsl.Artifact)
        stages.from_model_to_endpoint(given, data, model.output, training.output)

"""A model that is there already on a dataset that is there already: measured, judged and recorded, and nothing else."""

from __future__ import annotations

from kfp import dsl

from avskrift.steps.record.component import record
from avskrift_pipelines import parameters, stages
from avskrift_pipelines.form import Given, Parameter, group, pipeline
from avskrift_pipelines.placement import CONFIG_WITHOUT_WORKSPACE, acting, place, with_keys

MEASURED = group(
    Parameter(
        name="package",
        default="models:/avskrift-sv@challenger",
        help="The model package to measure: models:/NAME@ALIAS, models:/NAME/VERSION, or s3://.",
    ),
    Parameter(name="dataset", default="", help="The dataset to measure it on: the s3:// URI of a folder that prepare wrote."),
)
BASE_MODEL = Parameter(
    name="base_model", default="openai/whisper-small", help="The model to compare with where no baseline is named and none serves."
)


@pipeline(
    "avskrift-evaluate",
    MEASURED,
    group(BASE_MODEL),
    parameters.MEASURING,
    parameters.GATE,
    parameters.REGISTRY,
    parameters.SECRETS,
    config=CONFIG_WITHOUT_WORKSPACE,
)
def evaluate_only_pipeline(given: Given) -> None:
    """Measures a model package on a dataset beside the model that serves, judges it by the gate and records it in MLflow."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        found = stages.to_beat(given, baseline=given.package).set_display_name("find-package")
        package = dsl.importer(artifact_uri=found.outputs["uri"], artifact_class=dsl.Model)
        dataset = dsl.importer(artifact_uri=given.dataset, artifact_class=dsl.Dataset)
        baseline = stages.to_beat(given)
        evaluation = stages.compared(given, package.output, dataset.output, baseline)
        decided = stages.judged(given, evaluation, evaluation.outputs["package_sha256"])
        recorded = record(
            package_uri=found.outputs["uri"],
            evaluation=evaluation.outputs["evaluation"],
            decision=decided.outputs["decision"],
            pipeline_run_id=stages.RUN_ID,
            **given.to(record),
        )
        place(with_keys(acting(recorded), given, "mlflow"), "ops", memory="4Gi")

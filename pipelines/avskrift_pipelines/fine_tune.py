"""The main pipeline: from recordings to an answering endpoint."""

from __future__ import annotations

from kfp import dsl

from avskrift_pipelines import parameters, stages
from avskrift_pipelines.form import Given, group, pipeline
from avskrift_pipelines.placement import CONFIG


@pipeline(
    "avskrift-fine-tune",
    parameters.RECORDINGS,
    group(parameters.REFRESH, parameters.BASE_MODEL),
    parameters.TRAINING,
    parameters.NODE,
    parameters.MEASURING,
    parameters.GATE,
    parameters.REGISTRY,
    parameters.DEPLOYMENT,
    config=CONFIG,
)
def fine_tune_pipeline(given: Given) -> None:
    """Fine-tunes a Whisper for a language, proves that it is better than the baseline, registers it in MLflow and serves it."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        data = stages.prepared(given)
        dataset = data.outputs["dataset"]
        model = stages.trained(given, dataset)
        package = stages.exported(model, dataset)
        baseline = stages.to_beat(given, after=package)
        evaluation = stages.measured(
            package.outputs["package"],
            dataset,
            baseline_uri=baseline.outputs["uri"],
            baseline_sha256=baseline.outputs["package_sha256"],
            checks=given.checks,
            retention_dataset=given.retention_dataset,
        )
        decided = stages.judged(given, evaluation, package.outputs["package_sha256"])
        stages.published(
            given,
            package_uri=package.outputs["package_uri"],
            package_sha256=package.outputs["package_sha256"],
            evaluation=evaluation,
            decided=decided,
            training=model.outputs["training"],
            data=data,
        )

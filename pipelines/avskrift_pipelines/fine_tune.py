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
    parameters.SECRETS,
    parameters.DEPLOYMENT,
    config=CONFIG,
)
def fine_tune_pipeline(given: Given) -> None:
    """Fine-tunes a Whisper for a language, proves that it is better than the baseline, registers it in MLflow and serves it."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        stages.from_dataset_to_endpoint(given, stages.prepared(given))

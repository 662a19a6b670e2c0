"""The sweep: many trials side by side, and the best of them through the same gate as every other model."""

from __future__ import annotations

from kfp import dsl

from avskrift.steps.pick_trial.component import pick_trial
from avskrift.steps.plan_sweep.component import plan_sweep
from avskrift.steps.record_trial.component import record_trial
from avskrift_pipelines import parameters, stages
from avskrift_pipelines.form import Given, Parameter, but, group, pipeline
from avskrift_pipelines.placement import CONFIG_WITHOUT_WORKSPACE, acting, place, with_keys

_NO_CHECKS = ""  # trials are compared by their error rates alone
_SPLIT = "validation"

SWEEP = group(
    Parameter(name="base_models", default=["openai/whisper-small"], kind=list[str], help="Models to start from, by any model URI."),
    Parameter(
        name="learning_rates",
        default=[0.0],
        kind=list[float],
        help="Peak learning rates; 0 for the one that suits the model's size.",
    ),
    Parameter(name="seeds", default=[1, 2, 3], kind=list[int], help="Seeds of the order of training."),
    Parameter(name="max_trials", default=16, help="The most trials; more are refused before a GPU is used."),
)
_SIDE_BY_SIDE = 4  # trials; each has GPUs of its own
_NO_WORKSPACE = ""  # a run has one, which most storage lets pods of one node write to, and trials are on many


@pipeline(
    "avskrift-sweep",
    parameters.RECORDINGS,
    group(parameters.REFRESH),
    SWEEP,
    but(parameters.TRAINING_OF_TRIALS, learning_rate=None, seed=None),
    parameters.NODE,
    parameters.MEASURING,
    parameters.GATE,
    parameters.REGISTRY,
    parameters.SECRETS,
    parameters.DEPLOYMENT,
    config=CONFIG_WITHOUT_WORKSPACE,
)
def sweep_pipeline(given: Given) -> None:
    """Fine-tunes over base models, learning rates and seeds, picks by the validation split, and lets the best one through the gate."""
    with dsl.ExitHandler(stages.closing(given), name="pipeline"):
        data = stages.prepared(given)
        dataset = data.outputs["dataset"]
        planned = place(plan_sweep(**given.to(plan_sweep)), "data")
        with dsl.ParallelFor(planned.output, name="trials", parallelism=_SIDE_BY_SIDE) as trial:
            model = stages.trained(given, dataset, trial=trial, workspace=_NO_WORKSPACE)
            package = stages.exported(model.outputs["model"], model.outputs["training"], dataset)
            compared = stages.measured(
                given, package.outputs["package"], dataset, baseline_uri=trial.base_model, split=_SPLIT, checks=_NO_CHECKS
            )
            recorded = record_trial(
                trial=trial.trial,
                evaluation=compared.outputs["evaluation"],
                training=model.outputs["training"],
                package_uri=package.outputs["package_uri"],
                pipeline_run_id=stages.RUN_ID,
                **given.to(record_trial),
            )
            place(with_keys(acting(recorded), given, "mlflow"), "ops")
        picked = pick_trial(
            trials=planned.output,
            evaluations=dsl.Collected(compared.outputs["evaluation"]),
            trainings=dsl.Collected(model.outputs["training"]),
            package_uris=dsl.Collected(package.outputs["package_uri"]),
            package_sha256s=dsl.Collected(package.outputs["package_sha256"]),
        )
        place(picked, "data")
        best = dsl.importer(artifact_uri=picked.outputs["package_uri"], artifact_class=dsl.Model)
        story = dsl.importer(artifact_uri=picked.outputs["training_uri"], artifact_class=dsl.Artifact)
        baseline = stages.to_beat(given, after=picked, base_model=picked.outputs["base_model"])
        evaluation = stages.compared(given, best.output, dataset, baseline)
        decided = stages.judged(given, evaluation, picked.outputs["package_sha256"])
        stages.published(
            given,
            package_uri=picked.outputs["package_uri"],
            package_sha256=picked.outputs["package_sha256"],
            evaluation=evaluation,
            decided=decided,
            training=story.output,
            data=data,
        )

"""The main pipeline: from recordings to an answering endpoint.

Its parameters are the form in the KFP UI, so each is typed, has a default, and is described in the docstring.
"""

from kfp import dsl

from avskrift.steps.deploy.component import deploy
from avskrift.steps.evaluate.component import evaluate
from avskrift.steps.export.component import export
from avskrift.steps.finalize.component import finalize
from avskrift.steps.fine_tune.component import fine_tune
from avskrift.steps.gate.component import gate
from avskrift.steps.images import image
from avskrift.steps.prepare.component import prepare
from avskrift.steps.register.component import register
from avskrift.steps.reject.component import reject

PASSED = "passed"


@dsl.pipeline(
    name="avskrift-fine-tune",
    description="Fine-tunes a Whisper for a language, proves that it is better than the baseline, registers it in MLflow and serves it.",
)
def fine_tune_pipeline(
    source: str = "demo:",
    language: str = "sv",
    on_missing: str = "fail",
    max_rejected: float = 0.05,
    max_clips: int = 0,
    base_model: str = "openai/whisper-small",
    epochs: int = 3,
    max_steps: int = 0,
    learning_rate: float = 0.0,
    batch_seconds: float = 40.0,
    packed_share: float = 0.5,
    checkpoint_minutes: float = 2.0,
    seed: int = 1,
    baseline: str = "openai/whisper-small",
    max_wer: float = 0.3,
    require_better: bool = True,
    minimum_clips: int = 20,
    experiment: str = "avskrift",
    model_name: str = "avskrift-sv",
    tracking_uri: str = "",
    deploy_target: str = "kserve",
    service_name: str = "avskrift",
    namespace: str = "default",
    port: int = 8085,
) -> None:
    """Recordings with transcripts in, a better model behind an endpoint out.

    Args:
        source: Where the recordings are: demo:, a folder, or a manifest.
        language: A Whisper language code; the recordings' language.
        on_missing: What to do about a recording without transcript or the reverse: fail or skip.
        max_rejected: The share of clips that may be refused before the run fails.
        max_clips: Use only so many clips; 0 for all.
        base_model: The model to start from: hub id, folder, s3://, models:/ or package: URI.
        epochs: Passes over the train split.
        max_steps: Stop training after so many optimizer steps; 0 for all epochs.
        learning_rate: Peak learning rate; 0 for the one that suits the model's size.
        batch_seconds: Seconds of audio in a training step, padding included.
        packed_share: Share of clips trained inside windows of several clips with timestamps.
        checkpoint_minutes: Minutes between checkpoints, from which a stopped run goes on.
        seed: Decides the order of training.
        baseline: The model to beat, by any model URI; models:/NAME@champion is what serves today.
        max_wer: Highest word error rate that passes the gate, as a fraction.
        require_better: Whether the model must beat the baseline beyond chance.
        minimum_clips: The fewest test clips that the gate decides on.
        experiment: MLflow experiment of the run.
        model_name: Name of the registered model.
        tracking_uri: MLflow's address; empty for MLFLOW_TRACKING_URI of the step.
        deploy_target: kserve or local.
        service_name: Name of the InferenceService, and of the model in the endpoint's URLs.
        namespace: Namespace of the InferenceService.
        port: Port of a local endpoint.
    """
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    closing = finalize(pipeline_run_id=run_id, experiment=experiment, tracking_uri=tracking_uri)
    # What acts on the world outside must act again in a new run, however alike its inputs are.
    closing.set_caching_options(enable_caching=False)

    with dsl.ExitHandler(closing, name="pipeline"):
        prepared = prepare(source=source, language=language, on_missing=on_missing, max_rejected=max_rejected, max_clips=max_clips)
        prepared.set_cpu_limit("4").set_memory_limit("8Gi")

        trained = fine_tune(
            dataset=prepared.outputs["dataset"],
            base_model=base_model,
            epochs=epochs,
            max_steps=max_steps,
            learning_rate=learning_rate,
            batch_seconds=batch_seconds,
            packed_share=packed_share,
            checkpoint_minutes=checkpoint_minutes,
            seed=seed,
        )
        trained.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1).set_cpu_limit("8").set_memory_limit("32Gi")

        exported = export(model=trained.outputs["model"], training=trained.outputs["training"])
        exported.set_cpu_limit("4").set_memory_limit("16Gi")

        measured = evaluate(package=exported.outputs["package"], dataset=prepared.outputs["dataset"], baseline_uri=baseline)
        measured.set_cpu_limit("8").set_memory_limit("16Gi")

        decided = gate(
            evaluation=measured.outputs["evaluation"],
            package_sha256=exported.outputs["package_sha256"],
            max_wer=max_wer,
            require_better=require_better,
            minimum_clips=minimum_clips,
        )

        with dsl.If(decided.outputs["Output"] == PASSED, name="passed"):
            registered = register(
                package_uri=exported.outputs["package_uri"],
                package_sha256=exported.outputs["package_sha256"],
                evaluation=measured.outputs["evaluation"],
                decision=decided.outputs["decision"],
                training=trained.outputs["training"],
                model_name=model_name,
                experiment=experiment,
                pipeline_run_id=run_id,
                tracking_uri=tracking_uri,
            )
            registered.set_caching_options(enable_caching=False)
            deployed = deploy(
                package_uri=exported.outputs["package_uri"],
                model_name=model_name,
                version=registered.output,
                sample=prepared.outputs["sample"],
                target=deploy_target,
                service_name=service_name,
                namespace=namespace,
                port=port,
                serving_image=image("serving"),
                tracking_uri=tracking_uri,
            )
            deployed.set_caching_options(enable_caching=False)
        with dsl.Else(name="rejected"):
            rejected = reject(
                package_uri=exported.outputs["package_uri"],
                evaluation=measured.outputs["evaluation"],
                decision=decided.outputs["decision"],
                training=trained.outputs["training"],
                experiment=experiment,
                pipeline_run_id=run_id,
                tracking_uri=tracking_uri,
            )
            rejected.set_caching_options(enable_caching=False)

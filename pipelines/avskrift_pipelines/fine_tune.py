"""The main pipeline: from recordings to an answering endpoint.

Its parameters are the form in the KFP UI, so each is typed, has a default, and is described in the docstring.
"""

from typing import Any

from kfp import dsl, kubernetes

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

PASSED = "passed"
_GPU = "nvidia.com/gpu"


@dsl.pipeline(
    name="avskrift-fine-tune",
    description="Fine-tunes a Whisper for a language, proves that it is better than the baseline, registers it in MLflow and serves it.",
)
def fine_tune_pipeline(
    source: str = "demo:",
    language: str = "sv",
    validated_remainder: bool = False,
    exclude: str = "",
    on_missing: str = "fail",
    on_overlap: str = "fail",
    max_rejected: float = 0.05,
    max_clips: int = 0,
    prepare_parts: int = 1,
    base_model: str = "openai/whisper-small",
    epochs: int = 3,
    max_steps: int = 0,
    learning_rate: float = 0.0,
    batch_seconds: float = 0.0,
    packed_share: float = 0.5,
    checkpoint_minutes: float = 2.0,
    seed: int = 1,
    training_options: dict[str, Any] = {},  # noqa: B006 - KFP takes no other default, and nothing changes it
    checkpoints: str = "",
    gpus: str = "1",  # text: KFP's driver reads no resource from a number, and would ask for no GPU
    baseline: str = "",
    checks: str = "hallucination,long-form,short-context,latency",
    retention_dataset: str = "",
    max_wer: float = 0.3,
    comparison: str = "better",
    margin: float = 0.005,
    max_slice_loss: float = 0.0,
    max_hallucinated_words: float = 5.0,
    max_looped: float = 0.02,
    max_context_loss: float = 0.15,
    max_long_form_loss: float = 0.1,
    max_timestamp_error: float = -1.0,
    max_retention_loss: float = -1.0,
    min_speed: float = 0.0,
    max_latency: float = -1.0,
    minimum_clips: int = 20,
    minimum_speakers: int = 0,
    minimum_hours: float = 0.0,
    override_by: str = "",
    override_reason: str = "",
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
        source: Where the recordings are: demo:, commonvoice:, hf://, parquet:, a folder or a manifest; several are joined by " + ".
        language: A Whisper language code; the recordings' language.
        validated_remainder: Of Common Voice, train on the validated clips that are in no split too.
        exclude: A dataset whose validation and test are kept out of training; empty for none.
        on_missing: What to do about a recording without transcript or the reverse: fail or skip.
        on_overlap: What to do where named splits share speakers or sentences: fail, or hold-back the clips.
        max_rejected: The share of clips that may be refused before the run fails.
        max_clips: Use only so many clips; 0 for all.
        prepare_parts: Read the recordings in so many parts, each on a node of its own.
        base_model: The model to start from: hub id, folder, s3://, models:/ or package: URI.
        epochs: Passes over the train split.
        max_steps: Stop training after so many optimizer steps; 0 for all epochs.
        learning_rate: Peak learning rate; 0 for the one that suits the model's size.
        batch_seconds: Seconds of audio in a training step, padding included, over all GPUs; 0 for what suits the data.
        packed_share: Share of clips trained inside windows of several clips with timestamps.
        checkpoint_minutes: Minutes between checkpoints, from which a stopped run goes on.
        seed: Decides the order of training.
        training_options: Any other training option by name, as {"lora_rank": 16}; docs/training.md has the table.
        checkpoints: s3://BUCKET/PREFIX or a folder on a mounted volume; empty keeps them in the pod, and they are lost with it.
        gpus: GPUs of the training step, all of one node, as text; one process trains on each.
        baseline: The model to beat, by any model URI; empty for the one that serves today, or the base model where none does.
        checks: What to measure beside the error rates: hallucination, long-form, short-context, latency; with commas between.
        retention_dataset: A second dataset, on which the model is compared with the base model; empty for none.
        max_wer: The gate's bounds are explained in docs/gate.md. Highest upper interval bound of the word error rate, as a fraction.
        comparison: Against the baseline: better (beyond chance), not-worse (by less than the margin, beyond chance), or none.
        margin: For not-worse: by how much the WER may be above the baseline's.
        max_slice_loss: By how much the WER of any slice may be above the baseline's, beyond chance; -1 does not ask.
        max_hallucinated_words: Words a minute that may be heard where nobody speaks; -1 does not ask.
        max_looped: Share of the clips whose text may repeat itself; -1 does not ask.
        max_context_loss: By how much the WER of short clips may rise when they are encoded at their own length; -1 does not ask.
        max_long_form_loss: By how much the WER of clips joined into long recordings may be above their own; -1 does not ask.
        max_timestamp_error: Highest median error in seconds of where clips begin and end in long recordings; -1 does not ask.
        max_retention_loss: By how much the WER on the second dataset may be above the base model's; -1 does not ask.
        min_speed: Fewest seconds of audio transcribed in a second, on the node that evaluated.
        max_latency: Longest 95th percentile in seconds of transcribing one clip; -1 does not ask.
        minimum_clips: Fewest test clips that a decision may rest on.
        minimum_speakers: Fewest known test speakers that a decision may rest on.
        minimum_hours: Fewest hours of test recordings that a decision may rest on.
        override_by: Who promotes the model although a bound is not kept; empty for nobody. It is recorded in MLflow.
        override_reason: Why; recorded with who.
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
        listed = list_parts(
            source=source, parts=prepare_parts, language=language, validated_remainder=validated_remainder, on_missing=on_missing
        )
        listed.set_cpu_limit("1").set_memory_limit("2Gi")

        with dsl.ParallelFor(listed.output, name="parts") as part:
            read = read_part(
                source=source,
                part=part,
                parts=prepare_parts,
                language=language,
                validated_remainder=validated_remainder,
                on_missing=on_missing,
                on_overlap=on_overlap,
                max_clips=max_clips,
            )
            read.set_cpu_limit("4").set_memory_limit("4Gi")

        prepared = prepare(
            source=source,
            parts=dsl.Collected(read.outputs["staged"]),
            language=language,
            on_missing=on_missing,
            on_overlap=on_overlap,
            max_rejected=max_rejected,
            exclude=exclude,
        )
        prepared.set_cpu_limit("2").set_memory_limit("8Gi")

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
            gpus=gpus,  # also lets the channel into the exit handler's group, which the accelerator limit by itself does not
            options=training_options,
            checkpoints=checkpoints,
            experiment=experiment,
            pipeline_run_id=run_id,
            tracking_uri=tracking_uri,
        )
        trained.set_accelerator_type(_GPU).set_accelerator_limit(gpus).set_cpu_limit("8").set_memory_limit("40Gi")
        kubernetes.add_toleration(trained, key=_GPU, operator="Exists", effect="NoSchedule")
        # Workers hand batches over in shared memory, of which a pod has 64 MB by itself. What is in it counts as the pod's memory.
        kubernetes.empty_dir_mount(trained, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="8Gi")
        # A node that goes away (exit code 42, or no word at all) costs a new start, which goes on from the checkpoints.
        trained.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2)

        exported = export(model=trained.outputs["model"], training=trained.outputs["training"], dataset=prepared.outputs["dataset"])
        exported.set_cpu_limit("4").set_memory_limit("16Gi")

        # After training, not before: what serves may change in the hours between.
        to_beat = find_baseline(base_model=base_model, model_name=model_name, baseline=baseline, tracking_uri=tracking_uri)
        to_beat.after(exported).set_caching_options(enable_caching=False)

        measured = evaluate(
            package=exported.outputs["package"],
            dataset=prepared.outputs["dataset"],
            baseline_uri=to_beat.outputs["uri"],
            baseline_sha256=to_beat.outputs["package_sha256"],
            checks=checks,
            retention_dataset=retention_dataset,
        )
        measured.set_cpu_limit("8").set_memory_limit("16Gi")

        decided = gate(
            evaluation=measured.outputs["evaluation"],
            package_sha256=exported.outputs["package_sha256"],
            max_wer=max_wer,
            comparison=comparison,
            margin=margin,
            max_slice_loss=max_slice_loss,
            max_hallucinated_words=max_hallucinated_words,
            max_looped=max_looped,
            max_context_loss=max_context_loss,
            max_long_form_loss=max_long_form_loss,
            max_timestamp_error=max_timestamp_error,
            max_retention_loss=max_retention_loss,
            min_speed=min_speed,
            max_latency=max_latency,
            minimum_clips=minimum_clips,
            minimum_speakers=minimum_speakers,
            minimum_hours=minimum_hours,
            override_by=override_by,
            override_reason=override_reason,
        )

        with dsl.If(decided.outputs["Output"] == PASSED, name="passed"):
            registered = register(
                package_uri=exported.outputs["package_uri"],
                package_sha256=exported.outputs["package_sha256"],
                evaluation=measured.outputs["evaluation"],
                decision=decided.outputs["decision"],
                dataset_card=prepared.outputs["card"],
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
                dataset_card=prepared.outputs["card"],
                training=trained.outputs["training"],
                experiment=experiment,
                pipeline_run_id=run_id,
                tracking_uri=tracking_uri,
            )
            rejected.set_caching_options(enable_caching=False)

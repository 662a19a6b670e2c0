"""fine_tune's KFP face."""

from typing import Any

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def fine_tune(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    base_model: str = "openai/whisper-small",
    epochs: int = 3,
    max_steps: int = 0,
    learning_rate: float = 0.0,
    batch_seconds: float = 0.0,
    packed_share: float = 0.5,
    checkpoint_minutes: float = 2.0,
    seed: int = 1,
    gpus: str = "0",
    options: dict[str, Any] = {},  # noqa: B006 - KFP takes no other default, and nothing changes it
    checkpoints: str = "",
    workspace: str = "",
    experiment: str = "avskrift",
    trial: dict[str, str] = {},  # noqa: B006
    tracking_uri: str = "",
) -> None:
    """Fine-tune a Whisper on a dataset's train split; the best model by WER on its validation split is kept.

    Args:
        dataset: What prepare wrote.
        model: The fine-tuned model as a transformers folder.
        training: training.json, curves.jsonl, examples.jsonl and report.html.
        page: The report, for the KFP UI.
        metrics: Validation WER, steps, the last training loss, speed and memory.
        base_model: Hub id, folder, s3://, models:/ or package: URI of the model to start from.
        epochs: Passes over the train split.
        max_steps: Stop after so many optimizer steps; 0 for all epochs.
        learning_rate: Peak learning rate; 0 for the one that suits the model's size.
        batch_seconds: Seconds of audio in an optimizer step, padding included, over all GPUs; 0 for what suits the data.
        packed_share: Share of clips trained inside windows of several clips with timestamps.
        checkpoint_minutes: Minutes between checkpoints, from which a stopped run goes on.
        seed: Decides order, batches and augmentation.
        gpus: Processes, one on each GPU; 0 for all GPUs that the step sees, or one on a CPU. Text, as the pipeline's limit must be.
        options: Any training option by name (docs/training.md has the table); it wins over the parameters above.
        checkpoints: A folder or s3://BUCKET/PREFIX for checkpoints; empty for the workspace.
        workspace: A folder that outlives the container, for what it must not lose; empty for its own state folder, which is lost with it.
        experiment: The MLflow experiment that figures go to while it trains, to the run of KFP_RUN_ID. (The run's id is no
            parameter: another one each time, it would keep Kubeflow from ever taking a trained model from its cache.)
        trial: A trial of a sweep: trial (its name), base_model, learning_rate and seed, which win over all of the above; {} for none.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.fine_tune.step import Config, run
    from avskrift.training.config import TrainingConfig, parse_options

    with boundary("fine_tune"):
        main = {
            "epochs": epochs,
            "max_steps": max_steps,
            "learning_rate": learning_rate,
            "batch_seconds": batch_seconds,
            "packed_share": packed_share,
            "checkpoint_minutes": checkpoint_minutes,
            "seed": seed,
            "processes": gpus,
        }
        result = run(
            Config(
                dataset=dataset.path,
                base_model=trial.get("base_model", base_model),
                out=model.path,
                report=training.path,
                checkpoints=checkpoints or (workspace and f"{workspace}/checkpoints") or None,
                training=TrainingConfig(**parse_options(main | options | {name: trial[name] for name in main if name in trial})),
                experiment=experiment,
                trial=trial.get("trial", ""),
                tracking_uri=tracking_uri,
            )
        )
        result.copy_page(page.path)
        for name, value in result.figures().items():
            metrics.log_metric(name, value)

"""fine_tune's KFP face."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def fine_tune(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    base_model: str = "openai/whisper-small",
    epochs: int = 3,
    max_steps: int = 0,
    learning_rate: float = 0.0,
    batch_seconds: float = 40.0,
    packed_share: float = 0.5,
    checkpoint_minutes: float = 2.0,
    seed: int = 1,
) -> None:
    """Fine-tune a Whisper on a dataset's train split; the best model by WER on its validation split is kept.

    Args:
        dataset: What prepare wrote.
        model: The fine-tuned model as a transformers folder.
        training: training.json and curves.jsonl.
        metrics: Validation WER and steps.
        base_model: Hub id, folder, s3://, models:/ or package: URI of the model to start from.
        epochs: Passes over the train split.
        max_steps: Stop after so many optimizer steps; 0 for all epochs.
        learning_rate: Peak learning rate; 0 for the one that suits the model's size.
        batch_seconds: Seconds of audio in a step, padding included.
        packed_share: Share of clips trained inside windows of several clips with timestamps.
        checkpoint_minutes: Minutes between checkpoints, from which a stopped run goes on.
        seed: Decides order and batches.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.fine_tune.step import Config, run
    from avskrift.training.config import TrainingConfig

    with boundary("fine_tune"):
        settings = TrainingConfig(
            epochs=int(epochs),
            max_steps=int(max_steps),
            learning_rate=learning_rate,
            batch_seconds=batch_seconds,
            packed_share=packed_share,
            checkpoint_minutes=checkpoint_minutes,
            seed=int(seed),
        )
        result = run(Config(dataset=dataset.path, base_model=base_model, out=model.path, report=training.path, training=settings))
        metrics.log_metric("validation_wer", result.training.best_wer)

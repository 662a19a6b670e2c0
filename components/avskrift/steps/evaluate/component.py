"""The KFP face of evaluate."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("serving"), packages_to_install=[], install_kfp_package=False)
def evaluate(
    package: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    baseline_uri: str,
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    language: str = "",
    split: str = "test",
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 16,
) -> None:
    """Measure a model package and the model that serves today on the same clips, through the engine that serves.

    Args:
        package: The model package to measure.
        dataset: The dataset folder that prepare wrote.
        baseline_uri: The model to compare with: a folder, s3://, pvc://, models:/, package: or Hugging Face id.
        evaluation: Folder with evaluation.json, clips.jsonl and report.html.
        report: The report, for the KFP UI.
        metrics: Word and character error rates before and after, with intervals.
        language: A Whisper language code; empty takes the dataset's.
        split: The dataset's split to measure on; the gate accepts test alone.
        device: auto, cpu or cuda.
        threads: Threads of the engine on a CPU; 0 leaves their number to it.
        batch_size: Clips transcribed at a time.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.evaluate.step import Config, run

    with boundary("evaluate"):
        result = run(
            Config(
                package_uri=package.path,
                dataset=dataset.path,
                baseline_uri=baseline_uri,
                out=evaluation.path,
                language=language or None,
                split=split,
                device=device,
                threads=int(threads),  # KFP may hand on a whole number as a float
                batch_size=int(batch_size),
            )
        )
        result.copy_report(report.path)
        for name, value in result.metrics().items():
            metrics.log_metric(name, value)

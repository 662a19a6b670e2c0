"""The KFP face of evaluate."""

from typing import NamedTuple

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
    baseline_sha256: str = "",
    others: list[str] = [],  # noqa: B006 - KFP takes no other default, and nothing changes it
    language: str = "",
    split: str = "test",
    checks: str = "hallucination,long-form,short-context,latency",
    retention_dataset: str = "",
    use_cache: bool = True,
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 16,
) -> NamedTuple("Measured", [("package_sha256", str)]):
    """Measure a model package, the model that serves today and others on the same clips, through the engine that serves.

    Args:
        package: The model package to measure.
        dataset: The dataset folder that prepare wrote.
        baseline_uri: The model to compare with: a folder, s3://, pvc://, package: or Hugging Face id.
        evaluation: Folder with evaluation.json, clips.jsonl and report.html.
        report: The report, for the KFP UI.
        metrics: Error rates before and after with intervals, and what the checks found.
        baseline_sha256: The digest on record of that model's package, which it must have; empty where none is.
        others: More models to measure beside the two, by their URIs; no decision rests on them.
        language: A Whisper language code; empty takes the dataset's.
        split: The dataset's split to measure on; the gate accepts test alone.
        checks: Which of hallucination, long-form, short-context and latency to measure, with commas between; empty for none.
        retention_dataset: A second dataset, by its URI, on which to compare with the base model; empty for none.
        use_cache: Whether texts that a model was heard to give before are kept in the state folder and used.
        device: auto, cpu or cuda.
        threads: Threads of the engine on a CPU; 0 leaves their number to it.
        batch_size: Clips transcribed at a time.

    Returns:
        The identity of the package that was measured.
    """
    from avskrift.evaluation.check_names import read_checks
    from avskrift.steps.boundary import boundary
    from avskrift.steps.evaluate.step import Config, run

    with boundary("evaluate"):
        result = run(
            Config(
                package_uri=package.path,
                dataset=dataset.path,
                baseline_uri=baseline_uri,
                out=evaluation.path,
                baseline_sha256=baseline_sha256,
                others=others,
                language=language or None,
                split=split,
                checks=read_checks(checks),
                retention_dataset=retention_dataset,
                use_cache=use_cache,
                device=device,
                threads=int(threads),  # KFP may hand on a whole number as a float
                batch_size=int(batch_size),
            )
        )
        result.copy_report(report.path)
        for name, value in result.metrics().items():
            metrics.log_metric(name, value)
        return (result.evaluation.candidate.package_sha256,)

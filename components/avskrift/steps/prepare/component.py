"""The KFP face of prepare."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def prepare(
    source: str,
    dataset: dsl.Output[dsl.Dataset],
    sample: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    language: str = "sv",
    on_missing: str = "fail",
    max_rejected: float = 0.05,
    max_clips: int = 0,
) -> None:
    """Turn a source of recordings with transcripts into a dataset folder: validated, speaker-disjoint, sharded.

    Args:
        source: demo or demo:tiny, a folder of recordings with transcripts, or a manifest (.jsonl, .json, .csv, .tsv).
        dataset: The dataset folder.
        sample: Folder with clip.flac, the first test clip, to try an endpoint with.
        report: The report, for the KFP UI.
        metrics: Clips and hours of each split, and clips left out.
        language: A Whisper language code or its English name.
        on_missing: What a recording without its transcript (or the reverse) does: fail the step, or skip it.
        max_rejected: The share of refused clips above which the step fails.
        max_clips: Look at so many clips alone, always the same ones; 0 takes all.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.prepare.step import Config, run

    with boundary("prepare"):
        result = run(
            Config(
                source=source,
                out=dataset.path,
                language=language,
                on_missing=on_missing,
                max_rejected=max_rejected,
                max_clips=max_clips,
            )
        )
        result.copy_sample(sample.path)
        result.copy_report(report.path)
        dataset.metadata["fingerprint"] = result.fingerprint
        for name, value in result.metrics().items():
            metrics.log_metric(name, value)

"""The KFP face of prepare."""

from typing import NamedTuple

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def prepare(
    source: str,
    parts: dsl.Input[list[dsl.Artifact]],
    dataset: dsl.Output[dsl.Dataset],
    sample: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    language: str = "sv",
    on_missing: str = "fail",
    on_overlap: str = "fail",
    max_rejected: float = 0.05,
    exclude: str = "",
) -> NamedTuple("Prepared", [("fingerprint", str), ("dataset_uri", str)]):
    """Merge what read_part read into a dataset folder: validated, speaker-disjoint, sharded.

    Args:
        source: One source of recordings with transcripts, or several joined by " + ".
        parts: The checked recordings, in any number of parts.
        dataset: The dataset folder.
        sample: Folder with clip.flac, the first test clip, to try an endpoint with.
        card: dataset.json, report and card of the dataset, without its clips.
        report: The report, for the KFP UI.
        metrics: Clips and hours of each split, and clips left out.
        language: A Whisper language code or its English name.
        on_missing: What a recording without its transcript (or the reverse) does: fail the step, or skip it.
        on_overlap: What named splits that share speakers, sentences or recordings do: fail the step, or hold-back the clips.
        max_rejected: The share of refused clips above which the step fails.
        exclude: A dataset whose validation and test are kept out of train and validation; empty for none.

    Returns:
        The dataset's fingerprint, another one where its clips, texts or splits are others; and its URI, for steps that must not
        download it.
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
                on_overlap=on_overlap,
                max_rejected=max_rejected,
                exclude=exclude,
                parts=[part.path for part in parts],
            )
        )
        result.copy_apart(sample=sample.path, card=card.path, report=report.path)
        dataset.metadata["fingerprint"] = result.fingerprint
        for name, value in result.metrics().items():
            metrics.log_metric(name, value)
        return (result.fingerprint, dataset.uri)

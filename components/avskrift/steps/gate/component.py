"""The KFP face of gate."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def gate(
    evaluation: dsl.Input[dsl.Artifact],
    package_sha256: str,
    decision: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
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
) -> str:
    """Decide whether a package may be promoted. It fails closed: what is missing, not finite or contradictory is rejected.

    Rates are fractions, losses are counted in absolute WER. docs/gate.md explains every bound.

    Args:
        evaluation: The folder that evaluate wrote.
        package_sha256: The identity of the package that would be promoted; it must be the one that was measured.
        decision: Folder with decision.json, report.html and summary.md; every rule with its figure and threshold.
        report: The evaluation's report, the decision first, for the KFP UI.
        summary: The decision and its figures in short, for the KFP UI.
        max_wer: Highest upper interval bound of the word error rate, as a fraction; -1 does not ask.
        comparison: Against the baseline: better (beyond chance), not-worse (by less than the margin, beyond chance), or none.
        margin: For not-worse: by how much the WER may be above the baseline's.
        max_slice_loss: By how much the WER of any slice may be above the baseline's, beyond chance; -1 does not ask.
        max_hallucinated_words: Words a minute that may be heard where nobody speaks; -1 does not ask.
        max_looped: Share of the clips whose text may repeat itself; -1 does not ask.
        max_context_loss: By how much the WER of short clips may rise when they are encoded at their own length; -1 does not ask.
        max_long_form_loss: By how much the WER of clips joined into long recordings may be above their own; -1 does not ask.
        max_timestamp_error: Highest median error in seconds of where clips begin and end in long recordings; -1 does not ask.
        max_retention_loss: By how much the WER on the second dataset may be above the base model's; -1 does not ask.
        min_speed: Fewest seconds of audio transcribed in a second, on the machine that evaluated.
        max_latency: Longest 95th percentile in seconds of transcribing one clip; -1 does not ask.
        minimum_clips: Fewest test clips that a decision may rest on.
        minimum_speakers: Fewest known test speakers that a decision may rest on.
        minimum_hours: Fewest hours of test recordings that a decision may rest on.
        override_by: Who promotes the package although a bound is not kept; empty for nobody.
        override_reason: Why; recorded with who wherever the decision is.

    Returns:
        passed or rejected.
    """
    from avskrift.evaluation.policy import Policy
    from avskrift.steps.boundary import boundary
    from avskrift.steps.gate.step import Config, run

    with boundary("gate"):
        policy = Policy(
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
            minimum_clips=int(minimum_clips),  # KFP may hand on a whole number as a float
            minimum_speakers=int(minimum_speakers),
            minimum_hours=minimum_hours,
        )
        result = run(
            Config(
                evaluation=evaluation.path,
                package_sha256=package_sha256,
                out=decision.path,
                policy=policy,
                override_by=override_by,
                override_reason=override_reason,
            )
        )
        result.copy_report(report.path)
        result.copy_summary(summary.path)
    return result.verdict

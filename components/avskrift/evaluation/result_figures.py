"""An evaluation's figures under the names that they have where runs are compared: Kubeflow's metrics and MLflow's."""

from __future__ import annotations

from avskrift.evaluation.result import NORMALISED, PROTOCOLS, Evaluation, ModelScore

# "before" is the baseline, "after" the candidate, as in Kubeflow; MLflow's run is the candidate's, so that it needs no name there.


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """For Kubeflow; rates as fractions."""
    before, after, difference = evaluation.baseline, evaluation.candidate, evaluation.wer_difference
    return {
        "wer_before": before.wer.value,
        "wer_after": after.wer.value,
        "wer_after_low": after.wer.low,
        "wer_after_high": after.wer.high,
        "wer_difference": difference.value,
        "wer_difference_low": difference.low,
        "wer_difference_high": difference.high,
        "wins": difference.wins,
        "cer_before": before.cer.value,
        "cer_after": after.cer.value,
        **{f"{name}_before": figure for name, figure in _by_protocol(before).items()},
        **{f"{name}_after": figure for name, figure in _by_protocol(after).items()},
        "clips": float(evaluation.clips),
        "audio_seconds_per_second": after.speed.audio_seconds_per_second,
        **_checked(after),
        **_retained(evaluation),
    }


def figures(evaluation: Evaluation) -> dict[str, float]:
    """For MLflow; rates as fractions."""
    candidate, baseline, difference = evaluation.candidate, evaluation.baseline, evaluation.wer_difference
    return {
        "wer": candidate.wer.value,
        "wer_low": candidate.wer.low,
        "wer_high": candidate.wer.high,
        "cer": candidate.cer.value,
        "cer_low": candidate.cer.low,
        "cer_high": candidate.cer.high,
        **_by_protocol(candidate),
        "baseline_wer": baseline.wer.value,
        "baseline_wer_low": baseline.wer.low,
        "baseline_wer_high": baseline.wer.high,
        "baseline_cer": baseline.cer.value,
        **{f"baseline_{name}": figure for name, figure in _by_protocol(baseline).items()},
        "wer_difference": difference.value,
        "wer_difference_low": difference.low,
        "wer_difference_high": difference.high,
        "wins": difference.wins,
        "audio_seconds_per_second": candidate.speed.audio_seconds_per_second,
        "baseline_audio_seconds_per_second": baseline.speed.audio_seconds_per_second,
        **_checked(candidate),
        **{f"baseline_{name}": figure for name, figure in _checked(baseline).items()},
        **_retained(evaluation),
        "test_clips": evaluation.clips,
        "test_hours": evaluation.hours,
        "test_speakers": evaluation.speakers,
    }


def _by_protocol(score: ModelScore) -> dict[str, float]:
    """Of the protocols that are not the usual one, as ``wer_raw``."""
    named = {protocol: protocol.replace("-", "_") for protocol in PROTOCOLS if protocol != NORMALISED}
    wers = {f"wer_{name}": score.rates[protocol].wer.value for protocol, name in named.items()}
    return wers | {f"cer_{name}": score.rates[protocol].cer.value for protocol, name in named.items()}


def _checked(score: ModelScore) -> dict[str, float]:
    """What was measured beside the split; what was not is left out."""
    found: dict[str, float] = {"looped": float(score.looped)}
    if score.hallucination:
        found["hallucinated_words_a_minute"] = score.hallucination.words_a_minute.value
    if score.long_form:
        found |= {"long_form_loss": score.long_form.loss.value, "timestamp_error_s": score.long_form.timestamp_error_s}
    if score.short_context:
        found["context_loss"] = score.short_context.loss.value
    if score.speed.latency_clips:
        found |= {"latency_p50_s": score.speed.latency_p50_s, "latency_p95_s": score.speed.latency_p95_s}
    return found


def _retained(evaluation: Evaluation) -> dict[str, float]:
    return {"retention_loss": evaluation.retention.loss.value} if evaluation.retention else {}

"""The figures of an evaluation: word error rates with their intervals, of all models and of the slices."""

from __future__ import annotations

from collections.abc import Sequence

from avskrift import pages
from avskrift.evaluation.interval_chart import Interval, IntervalChart, interval_chart
from avskrift.evaluation.report_wording import Bounded, Model, models
from avskrift.evaluation.result import Evaluation, Slice

DURATION = "duration"


def wer_chart(evaluation: Evaluation, *, by_itself: bool = False) -> str:
    """The WER of every model; ``by_itself`` as a whole SVG file."""
    shown = models(evaluation)
    label = "Word error rate with its interval: " + ", ".join(f"{model.name} {pages.percent(model.score.wer.value)}" for model in shown)
    groups = [(model.name, [_interval(model, model.score.wer)]) for model in shown]
    return interval_chart(IntervalChart(label=label, groups=groups, written=pages.percent, tick=_tick), by_itself=by_itself)


def slice_chart(evaluation: Evaluation, slices: Sequence[Slice], label: str, *, by_itself: bool = False) -> str:
    """The WER of baseline and candidate in each of the slices."""
    baseline, candidate = models(evaluation)[:2]
    groups = [(one.name, [_interval(baseline, one.baseline), _interval(candidate, one.candidate)]) for one in slices]
    return interval_chart(IntervalChart(label=label, groups=groups, written=pages.percent, tick=_tick), by_itself=by_itself)


def pictures(evaluation: Evaluation) -> dict[str, str]:
    """SVG files by their names, for where a page cannot be shown."""
    drawn = {"wer.svg": wer_chart(evaluation, by_itself=True)}
    by_duration = [one for one in evaluation.slices if one.kind == DURATION]
    others = [one for one in evaluation.slices if one.kind != DURATION]
    if by_duration:
        drawn["wer_by_duration.svg"] = slice_chart(evaluation, by_duration, "Word error rate by length of the recording", by_itself=True)
    if others:
        drawn["wer_by_slice.svg"] = slice_chart(evaluation, others, "Word error rate by slice", by_itself=True)
    return drawn


def _interval(model: Model, wer: Bounded) -> Interval:
    return Interval(name=model.name, css=model.css, mark=model.mark, low=wer.low, value=wer.value, high=wer.high)


def _tick(rate: float) -> str:
    return f"{100 * rate:.3g} %"

"""Whether a package is good enough, bound by bound of the policy: what is asked for, and what a person may go past.

Where a rule lets a model through on a figure with an interval, the end that speaks against the model counts: a bound that is
kept only by luck is not kept. docs/gate.md says of each rule which figure it takes, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from avskrift.evaluation.policy import NOT_ASKED
from avskrift.evaluation.result import Difference, Slice
from avskrift.evaluation.rule import Case, Finding, Rule
from avskrift.evaluation.rule_wording import percent, plain, points, quote, shown
from avskrift.evaluation.soundness import number

LEAST_SLICE_CLIPS = 10  # an interval over fewer clips than that says nothing
_NOT_ASKED_FOR = "not asked for"


def _at_least(figure: object, limit: object, found: str) -> Finding:
    return Finding(
        passed=number(figure) >= number(limit),
        figure=shown(figure),
        threshold=shown(limit),
        sentence=f"{found}; at least {plain(limit)} are asked for",
    )


def _at_most(figure: object, limit: object, found: str, demand: str) -> Finding:
    """``figure`` is None where it was not measured: that is refused, unless nothing was asked for."""
    asked = number(limit) != NOT_ASKED
    return Finding(
        passed=number(figure) <= number(limit) or not asked,
        figure="not measured" if figure is None else shown(figure),
        threshold=shown(limit) if asked else _NOT_ASKED_FOR,
        sentence=f"{found}; {demand if asked else 'no bound was asked for'}",
    )


def _minimum_clips(case: Case) -> Finding:
    clips = case.evaluation.clips
    return _at_least(clips, case.policy.minimum_clips, f"{plain(clips)} clips were measured")


def _minimum_speakers(case: Case) -> Finding:
    speakers = case.evaluation.speakers
    return _at_least(speakers, case.policy.minimum_speakers, f"{plain(speakers)} known speakers were measured")


def _minimum_hours(case: Case) -> Finding:
    hours = case.evaluation.hours
    return _at_least(hours, case.policy.minimum_hours, f"{plain(hours)} hours were measured")


def _max_wer(case: Case) -> Finding:
    wer, limit = case.evaluation.candidate.wer, case.policy.max_wer
    found = f"the candidate's WER is {percent(wer.value)}, interval {percent(wer.low)} to {percent(wer.high)}"
    return _at_most(wer.high, limit, found, f"its upper end may be at most {percent(limit)}")


def _comparison(case: Case) -> Finding:
    comparison, difference = case.policy.comparison, case.evaluation.wer_difference
    found = f"the WER changes by {_change(difference)} against the baseline"
    if comparison == "none":
        return Finding(
            passed=True, figure=shown(difference.high), threshold=_NOT_ASKED_FOR, sentence=f"{found}; no comparison was asked for"
        )
    # Whatever else may stand there asks for the stricter of the two.
    limit = case.policy.margin if comparison == "not-worse" else 0
    asked = "0" if limit == 0 else points(limit)
    return Finding(
        passed=number(difference.high) < number(limit),
        figure=shown(difference.high),
        threshold=shown(limit),
        sentence=f"{found}; the whole interval must lie below {asked}",
    )


def _max_slice_loss(case: Case) -> Finding:
    limit = case.policy.max_slice_loss
    large = [one for one in case.evaluation.slices if number(one.clips) >= LEAST_SLICE_CLIPS]
    demand = f"the interval's lower end may be at most {points(limit)}"
    if not case.evaluation.slices:
        return _at_most(None, limit, "no slices were measured", demand)
    if not large:
        return _at_most(-1, limit, f"no slice has the {LEAST_SLICE_CLIPS} clips from which one is judged", demand)
    worst = max(large, key=_slice_loss)
    found = f"of {len(large)} slices {quote(worst.kind)} {quote(worst.name)} fares worst: its WER changes by {_change(worst.difference)}"
    return _at_most(worst.difference.low, limit, found, demand)


def _slice_loss(one: Slice) -> float:
    """By how much the slice is worse beyond chance; what is no number is the worst of all."""
    loss = number(one.difference.low)
    return math.inf if math.isnan(loss) else loss


def _max_hallucinated_words(case: Case) -> Finding:
    heard, limit = case.evaluation.candidate.hallucination, case.policy.max_hallucinated_words
    demand = f"at most {plain(limit)} are allowed"
    if heard is None:
        return _at_most(None, limit, "words heard where nobody speaks were not measured", demand)
    words = heard.words_a_minute.value
    return _at_most(words, limit, f"{plain(words)} words a minute are heard where nobody speaks", demand)


def _max_looped(case: Case) -> Finding:
    looped, clips, limit = number(case.evaluation.candidate.looped), number(case.evaluation.clips), case.policy.max_looped
    share = looped / clips if clips else math.nan
    return _at_most(share, limit, f"the text repeats itself in {percent(share)} of the clips", f"at most {percent(limit)} is allowed")


def _max_context_loss(case: Case) -> Finding:
    short = case.evaluation.candidate.short_context
    loss = None if short is None else short.loss
    return _loss(loss, case.policy.max_context_loss, "of short clips encoded at their own length, not at 30 s,")


def _max_long_form_loss(case: Case) -> Finding:
    joined = case.evaluation.candidate.long_form
    loss = None if joined is None else joined.loss
    return _loss(loss, case.policy.max_long_form_loss, "of clips joined into long recordings")


def _max_retention_loss(case: Case) -> Finding:
    retention = case.evaluation.retention
    loss = None if retention is None else retention.loss
    return _loss(loss, case.policy.max_retention_loss, "on the second dataset, against the base model's,")


def _loss(loss: Difference | None, limit: object, where: str) -> Finding:
    demand = f"the interval's upper end may be at most {points(limit)}"
    if loss is None:
        return _at_most(None, limit, f"the WER {where} was not measured", demand)
    return _at_most(loss.high, limit, f"the WER {where} changes by {_change(loss)}", demand)


def _max_timestamp_error(case: Case) -> Finding:
    joined, limit = case.evaluation.candidate.long_form, case.policy.max_timestamp_error
    demand = f"at most {plain(limit)} s is allowed"
    if joined is None:
        return _at_most(None, limit, "timestamps were not measured", demand)
    error = joined.timestamp_error_s
    return _at_most(error, limit, f"timestamps are {plain(error)} s from the truth, in the median", demand)


def _min_speed(case: Case) -> Finding:
    speed = case.evaluation.candidate.speed.audio_seconds_per_second
    return _at_least(speed, case.policy.min_speed, f"{plain(speed)} seconds of audio are transcribed in a second")


def _max_latency(case: Case) -> Finding:
    speed, limit = case.evaluation.candidate.speed, case.policy.max_latency
    demand = f"at most {plain(limit)} s is allowed"
    if speed.latency_clips == 0:
        return _at_most(None, limit, "the latency was not measured", demand)
    latency = speed.latency_p95_s
    return _at_most(latency, limit, f"95 of 100 clips are transcribed within {plain(latency)} s", demand)


def _change(difference: Difference) -> str:
    return f"{points(difference.value)} percentage points [{points(difference.low)}, {points(difference.high)}]"


def _rule(name: str, judge: Callable[[Case], Finding]) -> Rule:
    return Rule(name=name, integrity=False, judge=judge)


JUDGEMENT_RULES = (
    _rule("minimum_clips", _minimum_clips),
    _rule("minimum_speakers", _minimum_speakers),
    _rule("minimum_hours", _minimum_hours),
    _rule("max_wer", _max_wer),
    _rule("comparison", _comparison),
    _rule("max_slice_loss", _max_slice_loss),
    _rule("max_hallucinated_words", _max_hallucinated_words),
    _rule("max_looped", _max_looped),
    _rule("max_context_loss", _max_context_loss),
    _rule("max_long_form_loss", _max_long_form_loss),
    _rule("max_timestamp_error", _max_timestamp_error),
    _rule("max_retention_loss", _max_retention_loss),
    _rule("min_speed", _min_speed),
    _rule("max_latency", _max_latency),
)

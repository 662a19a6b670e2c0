"""Whether an evaluation says anything about the package: the rules that no person can go past."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.result import NORMALISED, RESULT_VERSION, Evaluation, ModelScore
from avskrift.evaluation.rule import Case, Finding, Rule
from avskrift.evaluation.rule_wording import quote, shown
from avskrift.evaluation.soundness import ERROR_COUNTS, close, integer, is_sha256, number, unsound_figures

LEAST_CONFIDENCE = 0.95  # a narrower interval excludes 0 too easily
MOST_CONFIDENCE = 0.99  # in a wider one a slice is never worse beyond chance
LEAST_RESAMPLES = 1_000  # fewer leave the tails of 2.5 % to a handful of draws


def _known_version(case: Case) -> Finding:
    version = case.evaluation.version
    return Finding(
        passed=integer(version) == RESULT_VERSION,
        figure=shown(version),
        threshold=RESULT_VERSION,
        sentence=f"the evaluation has version {quote(version)}; this gate reads version {RESULT_VERSION}",
    )


def _same_package(case: Case) -> Finding:
    measured, asked = case.evaluation.candidate.package_sha256, case.package_sha256
    return Finding(
        passed=is_sha256(asked) and measured == asked,
        figure=shown(measured),
        threshold=shown(asked),
        sentence=f"the package measured has sha256 {quote(measured)}; the one to promote has {quote(asked)}",
    )


def _test_split(case: Case) -> Finding:
    split = case.evaluation.split
    return Finding(
        passed=split == "test",
        figure=shown(split),
        threshold="test",
        sentence=f"the clips are of the split {quote(split)}; only test clips had no part in training or choosing the model",
    )


def _candidate_heard_every_clip(case: Case) -> Finding:
    return _every_clip_heard("candidate", case.evaluation.candidate, case.evaluation.clips)


def _baseline_heard_every_clip(case: Case) -> Finding:
    return _every_clip_heard("baseline", case.evaluation.baseline, case.evaluation.clips)


def _every_clip_heard(model: str, score: ModelScore, clips: object) -> Finding:
    heard = integer(score.hypotheses)
    return Finding(
        passed=heard is not None and heard == integer(clips),
        figure=shown(score.hypotheses),
        threshold=shown(clips),
        sentence=f"the {model} transcribed {quote(score.hypotheses)} clips; it must transcribe all {quote(clips)}",
    )


def _sound_figures(case: Case) -> Finding:
    unsound = ", ".join(unsound_figures(case.evaluation))
    found = f"missing, not finite, out of range or at odds with another: {unsound}; evaluate the package again"
    return Finding(
        passed=not unsound,
        figure=unsound or "all sound",
        threshold="all sound",
        sentence=found if unsound else "every figure is finite, within its range and consistent with the others",
    )


def _sound_intervals(case: Case) -> Finding:
    evaluation = case.evaluation
    confident = LEAST_CONFIDENCE <= number(evaluation.confidence) <= MOST_CONFIDENCE
    resampled = evaluation.resampled in ("speakers", "clips") and number(integer(evaluation.resamples)) >= LEAST_RESAMPLES
    found = f"confidence {quote(evaluation.confidence)} from {quote(evaluation.resamples)} resamples of {quote(evaluation.resampled)}"
    asked = f"confidence {LEAST_CONFIDENCE} to {MOST_CONFIDENCE} from {LEAST_RESAMPLES} resamples or more of speakers or clips"
    return Finding(
        passed=confident and resampled,
        figure=found,
        threshold=asked,
        sentence=f"the intervals have {found}; asked for is {asked}",
    )


def _clips_add_up(case: Case) -> Finding:
    amiss = ", ".join(_at_odds(case.evaluation, case.clips))
    found = f"the per-clip results are at odds with the evaluation in {amiss}; evaluate the package again"
    return Finding(
        passed=not amiss,
        figure=amiss or "all add up",
        threshold="all add up",
        sentence=found if amiss else f"the results of {len(case.clips)} clips add up to the evaluation's counts",
    )


def _at_odds(evaluation: Evaluation, clips: Sequence[ClipResult]) -> Iterator[str]:
    if not is_sha256(evaluation.clips_sha256):
        yield "their sha256"
    if len(clips) != integer(evaluation.clips) or len({clip.clip_id for clip in clips}) != len(clips):
        yield "clips"
    if len({clip.speaker_id for clip in clips} - {""}) != integer(evaluation.speakers):
        yield "speakers"
    if not close(math.fsum(number(clip.duration_s) for clip in clips) / 3600, number(evaluation.hours)):
        yield "hours"
    for model, score, wrong in (
        ("candidate", evaluation.candidate, [clip.candidate_errors for clip in clips]),
        ("baseline", evaluation.baseline, [clip.baseline_errors for clip in clips]),
    ):
        counted = score.rates[NORMALISED]
        if sum(map(_count, wrong)) != sum(_count(getattr(counted, name)) for name in ERROR_COUNTS):
            yield f"{model}'s errors"
        if sum(_count(clip.reference_words) for clip in clips) != _count(counted.reference_words):
            yield f"{model}'s reference words"


def _count(figure: object) -> int:
    count = integer(figure)
    if count is None:
        raise ValueError("a count that is no whole number")
    return count


INTEGRITY_RULES = tuple(
    Rule(name=name, integrity=True, judge=judge)
    for name, judge in (
        ("known_version", _known_version),
        ("same_package", _same_package),
        ("test_split", _test_split),
        ("candidate_heard_every_clip", _candidate_heard_every_clip),
        ("baseline_heard_every_clip", _baseline_heard_every_clip),
        ("sound_figures", _sound_figures),
        ("sound_intervals", _sound_intervals),
        ("clips_add_up", _clips_add_up),
    )
)

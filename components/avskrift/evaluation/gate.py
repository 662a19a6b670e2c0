"""The gate: may this package take over? A pure decision over an evaluation, and it fails closed.

Every rule is written as what must be true, ``isfinite(x) and x <= limit``, and never as what must not be, ``not (x >
limit)``: a NaN answers no to every comparison, and here no means refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.errors import EvaluationError
from avskrift.evaluation.result import Evaluation, ModelScore
from avskrift.evaluation.soundness import integer, is_sha256, number, unsound_figures

DECISION_FILE = "decision.json"
EVALUATION_VERSION = 1
LEAST_CONFIDENCE = 0.95  # a narrower interval excludes 0 too easily
LEAST_RESAMPLES = 1_000  # fewer leave the tails of 2.5 % to a handful of draws
_LONGEST_QUOTE = 80  # characters of a figure that is not one

Figure = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a package must show.

    ``max_wer`` is a fraction (0.3 is 30 %). ``require_better``: the whole interval of the WER difference to the
    baseline lies below 0, so that the candidate is better beyond chance.
    """

    max_wer: float = 0.30
    require_better: bool = True
    minimum_clips: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule: the figure it looked at, the threshold, and both in a sentence.

    Figures are JSON values; what is not finite, or no number at all where one belongs, stands as text.
    """

    name: str
    passed: bool
    figure: Figure
    threshold: Figure
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gate's word. ``reasons``: the sentences of the rules that failed or, where none did, of all of them."""

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[RuleResult, ...]

    @property
    def verdict(self) -> str:
        """``passed`` or ``rejected``: what a pipeline branches on, since KFP compares booleans as text."""
        return "passed" if self.passed else "rejected"


def decide(evaluation: Evaluation, policy: Policy, *, package_sha256: str) -> Decision:
    """Decide whether the package with this sha256 may be promoted on this evaluation.

    Never raises for what an evaluation holds: wrong types and figures that are missing or not finite are refused, with
    the reason.
    """
    rules = tuple(_rules(evaluation, policy, package_sha256))
    failed = tuple(rule.sentence for rule in rules if not rule.passed)
    return Decision(passed=not failed, reasons=failed or tuple(rule.sentence for rule in rules), rules=rules)


def decision_as_json(decision: Decision) -> dict[str, Any]:
    """The decision as plain JSON values, without NaN or infinity."""
    return dataclasses.asdict(decision)


def read_decision(folder: Path) -> Decision:
    """Read ``decision.json``.

    Raises:
        EvaluationError: it is missing or breaks the contract.
    """
    path = folder / DECISION_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {DECISION_FILE}; make one with `avskrift gate`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(RuleResult(**rule) for rule in raw["rules"])
        return Decision(passed=raw["passed"] is True, reasons=tuple(raw["reasons"]), rules=rules)
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path}: not a decision ({error}); run the gate again") from error


def explain(decision: Decision) -> str:
    """The decision for a terminal: the verdict, then a line for every rule."""
    verdict = "passed: the package may be promoted" if decision.passed else "rejected: nothing is promoted"
    return "\n".join([verdict, *(f"  {'yes' if rule.passed else 'NO ':3}  {rule.sentence}" for rule in decision.rules)])


def _rules(evaluation: Evaluation, policy: Policy, package_sha256: str) -> Iterator[RuleResult]:
    yield _known_version(evaluation)
    yield _same_package(evaluation, package_sha256)
    yield _test_split(evaluation)
    yield _enough_clips(evaluation, policy)
    yield _every_clip_heard("candidate", evaluation.candidate, evaluation.clips)
    yield _every_clip_heard("baseline", evaluation.baseline, evaluation.clips)
    yield _sound_figures(evaluation)
    yield _sound_intervals(evaluation)
    yield _low_wer(evaluation, policy)
    yield _better(evaluation, policy)


def _known_version(evaluation: Evaluation) -> RuleResult:
    return RuleResult(
        name="known_version",
        passed=integer(evaluation.version) == EVALUATION_VERSION,
        figure=_figure(evaluation.version),
        threshold=EVALUATION_VERSION,
        sentence=f"the evaluation has version {_quote(evaluation.version)}; this gate reads version {EVALUATION_VERSION}",
    )


def _same_package(evaluation: Evaluation, package_sha256: str) -> RuleResult:
    measured = evaluation.candidate.package_sha256
    return RuleResult(
        name="same_package",
        passed=is_sha256(package_sha256) and measured == package_sha256,
        figure=_figure(measured),
        threshold=_figure(package_sha256),
        sentence=f"the package measured has sha256 {_quote(measured)}; the one to promote has {_quote(package_sha256)}",
    )


def _test_split(evaluation: Evaluation) -> RuleResult:
    return RuleResult(
        name="test_split",
        passed=evaluation.split == "test",
        figure=_figure(evaluation.split),
        threshold="test",
        sentence=f"the clips are of the split {_quote(evaluation.split)}; only test clips had no part in training or choosing the model",
    )


def _enough_clips(evaluation: Evaluation, policy: Policy) -> RuleResult:
    clips, minimum = integer(evaluation.clips), integer(policy.minimum_clips)
    needed = _quote(policy.minimum_clips) if minimum is None else max(1, minimum)  # no clips prove nothing, whatever was asked for
    return RuleResult(
        name="enough_clips",
        passed=clips is not None and minimum is not None and clips >= max(1, minimum),
        figure=_figure(evaluation.clips),
        threshold=needed,
        sentence=f"{_quote(evaluation.clips)} clips were measured; a decision needs at least {needed}",
    )


def _every_clip_heard(model: str, score: ModelScore, clips: int) -> RuleResult:
    hypotheses = integer(score.hypotheses)
    return RuleResult(
        name=f"{model}_heard_every_clip",
        passed=hypotheses is not None and hypotheses == integer(clips),
        figure=_figure(score.hypotheses),
        threshold=_figure(clips),
        sentence=f"the {model} transcribed {_quote(score.hypotheses)} clips; it must transcribe all {_quote(clips)}",
    )


def _sound_figures(evaluation: Evaluation) -> RuleResult:
    unsound = ", ".join(unsound_figures(evaluation))
    found = f"missing, not finite, out of range or at odds with another: {unsound}; evaluate the package again"
    return RuleResult(
        name="sound_figures",
        passed=not unsound,
        figure=unsound or "all sound",
        threshold="all sound",
        sentence=found if unsound else "every figure is finite, within its range and consistent with the others",
    )


def _sound_intervals(evaluation: Evaluation) -> RuleResult:
    resamples = integer(evaluation.resamples)
    known_unit = evaluation.resampled in ("speakers", "clips")
    sound = LEAST_CONFIDENCE <= number(evaluation.confidence) < 1 and resamples is not None and resamples >= LEAST_RESAMPLES
    found = f"confidence {_quote(evaluation.confidence)} from {_quote(evaluation.resamples)} resamples of {_quote(evaluation.resampled)}"
    needed = f"confidence {LEAST_CONFIDENCE} from {LEAST_RESAMPLES} resamples of speakers or clips"
    sentence = f"the intervals have {found}; at least {needed} is asked for"
    return RuleResult(name="sound_intervals", passed=sound and known_unit, figure=found, threshold=needed, sentence=sentence)


def _low_wer(evaluation: Evaluation, policy: Policy) -> RuleResult:
    wer, limit = number(evaluation.candidate.wer.value), number(policy.max_wer)
    return RuleResult(
        name="max_wer",
        passed=math.isfinite(wer) and math.isfinite(limit) and 0 <= wer <= limit,
        figure=_figure(evaluation.candidate.wer.value),
        threshold=_figure(policy.max_wer),
        sentence=f"the candidate's WER is {_percent(wer)}; at most {_percent(limit)} is allowed",
    )


def _better(evaluation: Evaluation, policy: Policy) -> RuleResult:
    difference = evaluation.wer_difference
    low, value, high = number(difference.low), number(difference.value), number(difference.high)
    asked = policy.require_better is not False  # anything else that may stand there asks for it
    found = f"the WER changes by {_points(value)} percentage points against the baseline, interval {_points(low)} to {_points(high)}"
    return RuleResult(
        name="better_than_baseline",
        passed=not asked or (math.isfinite(high) and low <= value <= high < 0),
        figure=_figure(difference.high),
        threshold=0 if asked else "not asked for",
        sentence=f"{found}; {'the whole interval must lie below 0' if asked else 'being better was not asked for'}",
    )


def _figure(value: object) -> Figure:
    if isinstance(value, str):
        return value[:_LONGEST_QUOTE]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(number(value)):
        return value
    return _quote(value)


def _quote(value: object) -> str:
    """A value in a sentence. Text is quoted and shortened: it comes from a file, and may hold anything."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and math.isnan(number(value)) and not isinstance(value, bool):
        return "a number beyond all bounds"
    return value if is_sha256(value) else repr(value)[:_LONGEST_QUOTE]


def _percent(rate: float) -> str:
    return "not a number" if math.isnan(rate) else f"{100 * rate:.2f} %"


def _points(difference: float) -> str:
    return "not a number" if math.isnan(difference) else f"{100 * difference:+.2f}"

"""Each way of being refused, one at a time: an evaluation that passes, with one thing about it changed."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from avskrift.evaluation.gate import Decision, Policy, decide, decision_as_json, explain
from avskrift.evaluation.result import Estimate, Evaluation, ModelScore

CANDIDATE, BASELINE, OTHER = "a" * 64, "b" * 64, "c" * 64
POLICY = Policy(max_wer=0.3, require_better=True, minimum_clips=20)
NOT_NUMBERS = [math.nan, math.inf, -math.inf, None, "0.1", True, [], 10**400]


def score(sha256: str, errors: int) -> ModelScore:
    wer = errors / 1000
    return ModelScore(
        uri="a model",
        package_sha256=sha256,
        wer=Estimate(value=wer, low=wer - 0.02, high=wer + 0.02),
        cer=Estimate(value=wer / 3, low=wer / 4, high=wer / 2),
        substitutions=errors - 30,
        deletions=20,
        insertions=10,
        reference_words=1000,
        hypotheses=100,
        audio_seconds_per_second=8.5,
    )


SOUND = Evaluation(
    dataset_fingerprint="f" * 64,
    split="test",
    language="sv",
    normaliser="generic-1",
    clips=100,
    hours=0.125,
    speakers=12,
    resampled="speakers",
    resamples=10_000,
    confidence=0.95,
    candidate=score(CANDIDATE, 150),
    baseline=score(BASELINE, 450),
    wer_difference=Estimate(value=-0.3, low=-0.35, high=-0.25),
    engine="an engine",
)


def judged(evaluation: Evaluation, policy: Policy = POLICY, package_sha256: str = CANDIDATE) -> Decision:
    return decide(evaluation, policy, package_sha256=package_sha256)


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


def changed(path: str, value: Any) -> Evaluation:
    """SOUND with the figure at ``path``, such as candidate.wer.high, replaced."""
    return _changed(SOUND, path.split("."), value)


def _changed(holder: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    return replace(holder, **{head: _changed(getattr(holder, head), rest, value) if rest else value})


def test_a_sound_and_better_evaluation_passes_with_every_rule_as_its_reason() -> None:
    decision = judged(SOUND)
    assert decision.passed
    assert decision.verdict == "passed"
    assert len(decision.rules) == 10
    assert decision.reasons == tuple(rule.sentence for rule in decision.rules)


def test_a_rejection_names_the_failed_rules_alone_and_lists_them_all() -> None:
    decision = judged(SOUND, replace(POLICY, max_wer=0.1, minimum_clips=101))
    assert decision.verdict == "rejected"
    assert failed(decision) == {"max_wer", "enough_clips"}
    assert len(decision.rules) == 10
    assert [reason for reason in decision.reasons if "15.00 %" in reason and "10.00 %" in reason]
    assert [reason for reason in decision.reasons if "100 clips" in reason and "101" in reason]
    assert len(decision.reasons) == 2


def test_a_wer_at_the_threshold_passes_and_one_above_it_does_not() -> None:
    assert judged(SOUND, replace(POLICY, max_wer=0.15)).passed
    assert failed(judged(SOUND, replace(POLICY, max_wer=math.nextafter(0.15, 0)))) == {"max_wer"}


@pytest.mark.parametrize("limit", [*NOT_NUMBERS, -0.1])
def test_a_threshold_that_is_none_refuses(limit: Any) -> None:
    assert failed(judged(SOUND, replace(POLICY, max_wer=limit))) == {"max_wer"}


@pytest.mark.parametrize("minimum", [*NOT_NUMBERS, 20.0])
def test_a_minimum_of_clips_that_is_no_whole_number_refuses(minimum: Any) -> None:
    assert failed(judged(SOUND, replace(POLICY, minimum_clips=minimum))) == {"enough_clips"}


@pytest.mark.parametrize(
    ("low", "value", "high", "better"),
    [
        (-0.35, -0.3, -0.25, True),
        (-0.35, -0.3, math.nextafter(0, -1), True),
        (-0.35, -0.3, 0.0, False),
        (-0.35, -0.3, -0.0, False),
        (-0.35, -0.3, 0.01, False),
    ],
)
def test_better_means_that_the_whole_interval_lies_below_zero(low: float, value: float, high: float, better: bool) -> None:
    evaluation = replace(SOUND, wer_difference=Estimate(value=value, low=low, high=high))
    assert failed(judged(evaluation)) == (set() if better else {"better_than_baseline"})
    assert judged(evaluation, replace(POLICY, require_better=False)).passed


def test_a_candidate_that_equals_its_baseline_is_not_better() -> None:
    evaluation = replace(
        SOUND, candidate=replace(SOUND.baseline, package_sha256=CANDIDATE), wer_difference=Estimate(value=0, low=0, high=0)
    )
    assert failed(judged(evaluation, replace(POLICY, max_wer=0.5))) == {"better_than_baseline"}
    assert judged(evaluation, replace(POLICY, max_wer=0.5, require_better=False)).passed


@pytest.mark.parametrize("require", [None, 0, "", "false"])
def test_only_an_explicit_no_waives_being_better(require: Any) -> None:
    worse = replace(SOUND, wer_difference=Estimate(value=-0.3, low=-0.7, high=0.1))
    assert failed(judged(worse, replace(POLICY, require_better=require))) == {"better_than_baseline"}


@pytest.mark.parametrize("digest", [OTHER, BASELINE, "", CANDIDATE[:12], CANDIDATE.upper(), None])
def test_another_package_than_the_one_measured_is_refused(digest: Any) -> None:
    assert failed(judged(SOUND, package_sha256=digest)) == {"same_package"}


@pytest.mark.parametrize("digest", ["", None, "unknown", 0])
def test_a_measured_package_without_identity_is_refused_even_if_both_lack_it(digest: Any) -> None:
    assert "same_package" in failed(judged(changed("candidate.package_sha256", digest), package_sha256=digest))


@pytest.mark.parametrize("version", [0, 2, None, "1", True, 1.0, math.nan])
def test_an_evaluation_of_unknown_version_is_refused(version: Any) -> None:
    assert failed(judged(changed("version", version))) == {"known_version"}


@pytest.mark.parametrize("split", ["train", "validation", "", None, "TEST"])
def test_figures_of_another_split_than_test_are_refused(split: Any) -> None:
    assert failed(judged(changed("split", split))) == {"test_split"}


def with_clips(clips: Any) -> Evaluation:
    return replace(
        SOUND, clips=clips, candidate=replace(SOUND.candidate, hypotheses=clips), baseline=replace(SOUND.baseline, hypotheses=clips)
    )


def test_too_few_clips_are_refused_and_none_is_always_too_few() -> None:
    assert judged(with_clips(20)).passed
    assert failed(judged(with_clips(19))) == {"enough_clips"}
    assert failed(judged(with_clips(0), replace(POLICY, minimum_clips=0))) == {"enough_clips"}
    assert "enough_clips" in failed(judged(with_clips(-5), replace(POLICY, minimum_clips=-10)))


@pytest.mark.parametrize("clips", [*NOT_NUMBERS, 100.0])
def test_a_number_of_clips_that_is_none_is_refused(clips: Any) -> None:
    names = {"enough_clips", "candidate_heard_every_clip", "baseline_heard_every_clip"}
    assert failed(judged(changed("clips", clips))) == names
    assert names <= failed(judged(with_clips(clips)))


@pytest.mark.parametrize("model", ["candidate", "baseline"])
@pytest.mark.parametrize("hypotheses", [0, 99, 101])
def test_a_model_that_skipped_clips_is_refused(model: str, hypotheses: int) -> None:
    assert failed(judged(changed(f"{model}.hypotheses", hypotheses))) == {f"{model}_heard_every_clip"}


FIGURES = [
    *(f"{model}.{rate}.{end}" for model in ("candidate", "baseline") for rate in ("wer", "cer") for end in ("value", "low", "high")),
    *(
        f"{model}.{count}"
        for model in ("candidate", "baseline")
        for count in ("substitutions", "deletions", "insertions", "reference_words")
    ),
    *(f"{model}.audio_seconds_per_second" for model in ("candidate", "baseline")),
    *(f"wer_difference.{end}" for end in ("value", "low", "high")),
    "hours",
    "speakers",
]


@pytest.mark.parametrize("figure", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("path", FIGURES)
def test_a_figure_that_is_no_finite_number_is_refused_wherever_it_stands(path: str, figure: Any) -> None:
    evaluation = changed(path, figure)
    for policy in (POLICY, replace(POLICY, require_better=False)):
        decision = judged(evaluation, policy)
        assert "sound_figures" in failed(decision)
        assert [reason for reason in decision.reasons if path.rsplit(".", 1)[0] in reason]


@pytest.mark.parametrize("path", [path for path in FIGURES if not path.startswith("wer_difference")])
def test_a_negative_figure_is_refused_where_none_can_be(path: str) -> None:
    assert "sound_figures" in failed(judged(changed(path, -1)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("candidate.wer.low", 0.16),
        ("candidate.wer.high", 0.14),
        ("baseline.cer.low", 0.9),
        ("wer_difference.low", -0.2),
        ("wer_difference.value", -0.26),
        ("candidate.wer.value", 0.14),
        ("candidate.substitutions", 119),
        ("candidate.reference_words", 1001),
        ("baseline.reference_words", 0),
        ("baseline.package_sha256", ""),
        ("hours", 0),
    ],
)
def test_figures_that_contradict_each_other_are_refused(path: str, value: Any) -> None:
    assert "sound_figures" in failed(judged(changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("confidence", 0.9),
        ("confidence", 1.0),
        ("confidence", math.nan),
        ("confidence", None),
        ("resamples", 999),
        ("resamples", 1e4),
        ("resamples", None),
        ("resampled", ""),
        ("resampled", "words"),
        ("resampled", None),
        ("resampled", []),
    ],
)
def test_an_interval_that_promises_less_is_refused(path: str, value: Any) -> None:
    assert failed(judged(changed(path, value))) == {"sound_intervals"}


def test_a_decision_over_hostile_figures_is_still_strict_json() -> None:
    for evaluation in (
        changed("candidate.wer.value", math.nan),
        changed("clips", 10**400),
        changed("version", None),
        changed("split", "\x1b[2J" * 90),
    ):
        text = json.dumps(decision_as_json(judged(evaluation)), allow_nan=False)
        assert json.loads(text)["passed"] is False
        assert "\x1b" not in explain(judged(evaluation))


@pytest.mark.parametrize(
    ("policy", "verdict"), [(POLICY, "passed"), (replace(POLICY, max_wer=0.1), "rejected")], ids=["passed", "rejected"]
)
def test_the_explanation_gives_every_rule_a_line_and_marks_the_failed_ones(policy: Policy, verdict: str) -> None:
    decision = judged(SOUND, policy)
    first, *lines = explain(decision).splitlines()
    assert first.startswith(verdict)
    assert [line.split()[0] for line in lines] == ["yes" if rule.passed else "NO" for rule in decision.rules]
    assert all(rule.sentence in line for rule, line in zip(decision.rules, lines, strict=True))

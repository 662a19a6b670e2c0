"""Each way of being refused, one at a time: an evaluation that passes, with one thing about it changed.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/unit/test_gate.py`` writes anew what the rules say, tests/golden/gate.txt.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import BASELINE, CANDIDATE, OTHER, at, changed, clip_results, difference, estimate, evaluation

from avskrift.errors import UsageError
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.decision import Decision, Override, asked_override
from avskrift.evaluation.decision_file import decision_as_json, explained, explained_briefly
from avskrift.evaluation.gate import RULES, decide
from avskrift.evaluation.integrity_rules import INTEGRITY_RULES
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import Difference, Evaluation
from avskrift.evaluation.result_file import evaluation_seal
from avskrift.evaluation.soundness import unsound_figures

SOUND = evaluation()
CLIPS = clip_results()
POLICY = Policy()
# Every bound asked for, each kept.
STRICT = Policy(max_timestamp_error=0.1, max_retention_loss=0.05, max_latency=0.5, minimum_speakers=10, minimum_hours=0.1, min_speed=2)
NOT_NUMBERS = [math.nan, math.inf, -math.inf, None, "0.1", True, [], 10**400]
INTEGRITY = {rule.name for rule in INTEGRITY_RULES}


def judged(
    whole: Evaluation,
    policy: Policy = STRICT,
    *,
    package_sha256: Any = CANDIDATE,
    clips: Sequence[ClipResult] = CLIPS,
    override: Override | None = None,
) -> Decision:
    return decide(whole, policy, package_sha256=package_sha256, clips=clips, override=override)


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


def sentence(decision: Decision, name: str) -> str:
    (found,) = [rule.sentence for rule in decision.rules if rule.name == name]
    return found


def forced(name: str, value: Any, policy: Policy = STRICT) -> Policy:
    """A policy with a bound that no policy takes, as if it had got past."""
    broken = dataclasses.replace(policy)
    object.__setattr__(broken, name, value)
    return broken


def test_a_sound_and_better_evaluation_passes_with_every_rule_as_its_reason() -> None:
    for policy in (POLICY, STRICT):
        decision = judged(SOUND, policy)
        assert decision.passed is True
        assert decision.verdict == "passed"
        assert not decision.overridden
        assert len(decision.rules) == 22
        assert decision.reasons == tuple(rule.sentence for rule in decision.rules)
        assert decision.evaluation_sha256 == evaluation_seal(SOUND)


def test_a_rejection_names_the_failed_rules_alone_and_lists_them_all() -> None:
    decision = judged(SOUND, replace(STRICT, max_wer=0.1, minimum_clips=101))
    assert decision.verdict == "rejected"
    assert failed(decision) == {"max_wer", "minimum_clips"}
    assert [rule.name for rule in decision.failed] == ["minimum_clips", "max_wer"]
    assert len(decision.rules) == 22
    assert decision.reasons == (
        "100 clips were measured; at least 101 are asked for",
        "the candidate's WER is 15.00 %, interval 13.00 % to 17.00 %; its upper end may be at most 10.00 %",
    )


def test_every_bound_of_the_policy_has_the_rule_of_its_name_and_rules_have_one_name_each() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    bounds = {bound.name for bound in dataclasses.fields(Policy)} - {"margin"}  # the margin is the comparison's
    assert {rule.name for rule in RULES if not rule.integrity} == bounds
    assert set(names) - bounds == INTEGRITY


# Of bounds: the figure that each looks at.
AT_MOST = {
    "max_wer": "candidate.rates.normalised.wer.high",
    "max_hallucinated_words": "candidate.hallucination.words_a_minute.value",
    "max_context_loss": "candidate.short_context.loss.high",
    "max_long_form_loss": "candidate.long_form.loss.high",
    "max_timestamp_error": "candidate.long_form.timestamp_error_s",
    "max_retention_loss": "retention.loss.high",
    "max_latency": "candidate.speed.latency_p95_s",
}
AT_LEAST = {
    "minimum_clips": "clips",
    "minimum_speakers": "speakers",
    "minimum_hours": "hours",
    "min_speed": "candidate.speed.audio_seconds_per_second",
}


@pytest.mark.parametrize("bound", AT_MOST)
def test_a_figure_at_its_highest_passes_and_above_it_does_not(bound: str) -> None:
    figure = at(SOUND, AT_MOST[bound])
    assert judged(SOUND, replace(STRICT, **{bound: figure})).passed
    decision = judged(SOUND, replace(STRICT, **{bound: math.nextafter(figure, 0)}))
    assert failed(decision) == {bound}
    (rule,) = decision.failed
    assert (rule.figure, rule.threshold, rule.integrity) == (figure, math.nextafter(figure, 0), False)
    assert "most" in rule.sentence


@pytest.mark.parametrize("bound", AT_LEAST)
def test_a_figure_at_its_least_passes_and_below_it_does_not(bound: str) -> None:
    figure = at(SOUND, AT_LEAST[bound])
    more = figure + 1 if isinstance(figure, int) else math.nextafter(figure, math.inf)
    assert judged(SOUND, replace(STRICT, **{bound: figure})).passed
    decision = judged(SOUND, replace(STRICT, **{bound: more}))
    assert failed(decision) == {bound}
    assert (decision.failed[0].figure, decision.failed[0].threshold) == (figure, more)


def test_the_share_of_clips_that_repeat_themselves_is_bounded() -> None:
    assert judged(SOUND, replace(STRICT, max_looped=0.01)).passed
    decision = judged(SOUND, replace(STRICT, max_looped=0.0099))
    assert failed(decision) == {"max_looped"}
    assert decision.failed[0].figure == 0.01
    assert "1.00 % of the clips" in decision.reasons[0]


def test_of_no_clips_no_share_repeats_itself() -> None:
    decision = judged(replace(SOUND, clips=0), replace(STRICT, max_looped=1))
    assert "max_looped" in failed(decision)
    assert "the text repeats itself in not a number of the clips" in sentence(decision, "max_looped")


OFF = ["max_wer", "max_slice_loss", "max_looped", *AT_MOST]


@pytest.mark.parametrize("bound", OFF)
def test_a_rule_that_is_not_asked_for_passes_and_says_so(bound: str) -> None:
    (rule,) = [rule for rule in judged(SOUND, replace(STRICT, **{bound: -1})).rules if rule.name == bound]
    assert rule.passed
    assert rule.threshold == "not asked for"
    assert rule.sentence.endswith("no bound was asked for")


UNMEASURED = {
    "max_hallucinated_words": ("candidate.hallucination", None),
    "max_context_loss": ("candidate.short_context", None),
    "max_long_form_loss": ("candidate.long_form", None),
    "max_timestamp_error": ("candidate.long_form", None),
    "max_retention_loss": ("retention", None),
    "max_latency": ("candidate.speed.latency_clips", 0),
    "max_slice_loss": ("slices", ()),
}


@pytest.mark.parametrize("bound", UNMEASURED)
def test_what_was_not_measured_is_refused_where_it_is_asked_for(bound: str) -> None:
    path, nothing = UNMEASURED[bound]
    unmeasured = replace(changed(SOUND, path, nothing), worst_slice=None)
    decision = judged(unmeasured)
    assert bound in failed(decision)
    assert failed(decision) <= {bound, *(("max_timestamp_error", "max_long_form_loss") if "long_form" in path else ())}
    (rule,) = [rule for rule in decision.failed if rule.name == bound]
    assert rule.figure == "not measured"
    assert "not measured" in rule.sentence or "no slices were measured" in rule.sentence
    off = dict.fromkeys(("max_timestamp_error", "max_long_form_loss", bound), -1)
    assert judged(unmeasured, replace(STRICT, **off)).passed


@pytest.mark.parametrize("bound", [bound.name for bound in dataclasses.fields(Policy) if bound.name not in ("comparison", "margin")])
@pytest.mark.parametrize("limit", NOT_NUMBERS, ids=repr)
def test_a_bound_that_is_no_number_refuses(bound: str, limit: Any) -> None:
    assert failed(judged(SOUND, forced(bound, limit))) == {bound}


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
    whole = replace(SOUND, wer_difference=Difference(value=value, low=low, high=high, wins=0.9))
    decision = judged(whole)
    assert failed(decision) == (set() if better else {"comparison"})
    assert "the whole interval must lie below 0" in sentence(decision, "comparison")
    waived = judged(whole, replace(STRICT, comparison="none"))
    assert waived.passed
    assert "no comparison was asked for" in sentence(waived, "comparison")
    (rule,) = [rule for rule in waived.rules if rule.name == "comparison"]
    assert (rule.figure, rule.threshold) == (high, "not asked for")


@pytest.mark.parametrize(
    ("high", "margin", "enough"), [(0.004, 0.005, True), (0.005, 0.005, False), (0.006, 0.005, False), (0.0, 0.0, False)]
)
def test_not_worse_means_that_the_whole_interval_lies_below_the_margin(high: float, margin: float, enough: bool) -> None:
    whole = replace(SOUND, wer_difference=Difference(value=-0.3, low=-0.4, high=high, wins=0.9))
    decision = judged(whole, replace(STRICT, comparison="not-worse", margin=margin))
    assert failed(decision) == (set() if enough else {"comparison"})
    (rule,) = [rule for rule in decision.rules if rule.name == "comparison"]
    assert (rule.figure, rule.threshold) == (high, margin)
    assert f"must lie below {'+0.50' if margin else '0'}" in rule.sentence
    assert failed(judged(whole)) == {"comparison"}, "the margin is no excuse where better is asked for"


def test_a_candidate_that_equals_its_baseline_is_not_better_but_not_worse() -> None:
    same = replace(
        SOUND,
        candidate=replace(SOUND.candidate, rates=SOUND.baseline.rates),
        wer_difference=Difference(value=0, low=0, high=0, wins=0.5),
    )
    clips = [replace(clip, candidate_errors=clip.baseline_errors) for clip in CLIPS]
    loose = replace(STRICT, max_wer=0.5)
    assert failed(judged(same, loose, clips=clips)) == {"comparison"}
    assert judged(same, replace(loose, comparison="not-worse"), clips=clips).passed
    assert failed(judged(same, replace(loose, comparison="not-worse", margin=0), clips=clips)) == {"comparison"}


@pytest.mark.parametrize("comparison", [None, 0, "", "no", "NONE", []])
def test_only_an_explicit_none_waives_the_comparison(comparison: Any) -> None:
    worse = replace(SOUND, wer_difference=Difference(value=-0.3, low=-0.7, high=0.001, wins=0.9))
    assert failed(judged(worse, forced("comparison", comparison))) == {"comparison"}


@pytest.mark.parametrize("margin", NOT_NUMBERS, ids=repr)
def test_a_margin_that_is_no_number_refuses(margin: Any) -> None:
    assert failed(judged(SOUND, forced("margin", margin, replace(STRICT, comparison="not-worse")))) == {"comparison"}


def with_worse_slice(clips: int, *, low: float = 0.02) -> Evaluation:
    """The slice of male speakers, a little worse than with the baseline."""
    worse = replace(
        SOUND.slices[5], clips=clips, candidate=estimate(0.53, 0.03), baseline=estimate(0.5, 0.03), difference=difference(0.03, 0.03 - low)
    )
    return replace(SOUND, slices=(*SOUND.slices[:5], worse, *SOUND.slices[6:]))


def test_a_slice_that_is_worse_beyond_chance_is_refused_by_name() -> None:
    whole = with_worse_slice(50)
    decision = judged(whole)
    assert failed(decision) == {"max_slice_loss"}
    low = at(whole, "slices.5.difference.low")
    assert decision.reasons == (
        "of 7 slices 'gender' 'male' fares worst: its WER changes by +3.00 percentage points [+2.00, +4.00]; "
        "the interval's lower end may be at most +0.00",
    )
    assert decision.failed[0].figure == low
    assert judged(whole, replace(STRICT, max_slice_loss=low)).passed
    assert failed(judged(whole, replace(STRICT, max_slice_loss=math.nextafter(low, 0)))) == {"max_slice_loss"}
    assert judged(with_worse_slice(50, low=-0.01)).passed, "worse, but not beyond chance"


def test_a_slice_is_judged_from_ten_clips_on() -> None:
    assert failed(judged(with_worse_slice(10))) == {"max_slice_loss"}
    few = judged(with_worse_slice(9))
    assert few.passed
    assert "of 6 slices" in sentence(few, "max_slice_loss")
    small = replace(SOUND, slices=(SOUND.slices[7],), worst_slice=None)
    assert judged(small).passed
    assert "no slice has the 10 clips" in sentence(judged(small), "max_slice_loss")


@pytest.mark.parametrize("low", NOT_NUMBERS, ids=repr)
def test_a_slice_whose_figure_is_no_number_is_the_worst(low: Any) -> None:
    decision = judged(changed(SOUND, "slices.2.difference.low", low))
    assert {"max_slice_loss", "sound_figures"} == failed(decision)
    assert "'4 to 7 s' fares worst" in sentence(decision, "max_slice_loss")


@pytest.mark.parametrize("digest", [OTHER, BASELINE, "", CANDIDATE[:12], CANDIDATE.upper(), None, f"{CANDIDATE}\n"])
def test_another_package_than_the_one_measured_is_refused(digest: Any) -> None:
    decision = judged(SOUND, package_sha256=digest)
    assert failed(decision) == {"same_package"}
    assert CANDIDATE in decision.reasons[0]


@pytest.mark.parametrize("digest", ["", None, "unknown", 0])
def test_a_measured_package_without_identity_is_refused_even_if_both_lack_it(digest: Any) -> None:
    assert failed(judged(changed(SOUND, "candidate.package_sha256", digest), package_sha256=digest)) == {"same_package", "sound_figures"}


@pytest.mark.parametrize("version", [0, 1, 3, None, "2", True, 2.0, math.nan])
def test_an_evaluation_of_unknown_version_is_refused(version: Any) -> None:
    decision = judged(replace(SOUND, version=version))
    assert failed(decision) == {"known_version"}
    assert decision.failed[0].threshold == 2


@pytest.mark.parametrize("split", ["train", "validation", "", None, "TEST"])
def test_figures_of_another_split_than_test_are_refused(split: Any) -> None:
    assert failed(judged(replace(SOUND, split=split))) == {"test_split"}


@pytest.mark.parametrize("model", ["candidate", "baseline"])
@pytest.mark.parametrize("hypotheses", [0, 99, 101, *NOT_NUMBERS], ids=repr)
def test_a_model_that_skipped_clips_is_refused(model: str, hypotheses: Any) -> None:
    decision = judged(changed(SOUND, f"{model}.hypotheses", hypotheses))
    assert failed(decision) == {f"{model}_heard_every_clip", "sound_figures"}
    assert f"the {model} transcribed" in sentence(decision, f"{model}_heard_every_clip")


def test_another_model_that_skipped_clips_is_refused_too() -> None:
    whole = replace(SOUND, others=(SOUND.baseline, replace(SOUND.baseline, hypotheses=99)))
    decision = judged(whole)
    assert failed(decision) == {"sound_figures"}
    assert "others.1.hypotheses" in decision.reasons[0]
    assert judged(replace(SOUND, others=(SOUND.baseline,))).passed


@pytest.mark.parametrize("clips", [0, -5, 100.0, *NOT_NUMBERS], ids=repr)
def test_a_number_of_clips_that_is_none_is_refused_even_if_nothing_is_asked_for(clips: Any) -> None:
    whole = replace(
        SOUND, clips=clips, candidate=replace(SOUND.candidate, hypotheses=clips), baseline=replace(SOUND.baseline, hypotheses=clips)
    )
    assert {"sound_figures", "clips_add_up"} <= failed(judged(whole, forced("minimum_clips", -10)))
    assert {"sound_figures", "clips_add_up"} <= failed(judged(replace(SOUND, clips=clips)))


def test_one_clip_is_a_number_of_clips_and_one_word_a_number_of_words() -> None:
    assert "clips" in unsound_figures(replace(SOUND, clips=0))
    assert "clips" not in unsound_figures(replace(SOUND, clips=1))
    words = "baseline.rates.normalised.reference_words"
    assert words in unsound_figures(changed(SOUND, words, 0))
    assert words not in unsound_figures(changed(SOUND, words, 1))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("hours", [1e-9]),
        ("speakers", [12, 100]),
        ("candidate.looped", [0, 100]),
        ("candidate.speed.audio_seconds_per_second", [0, 0.1]),
        ("candidate.speed.latency_p50_s", [0, 0.4]),
        ("candidate.speed.latency_clips", [0, 1]),
        ("candidate.hallucination.sounds.0.recordings", [1]),
        ("candidate.hallucination.sounds.0.looped", [6]),
        ("candidate.long_form.recordings", [1]),
        ("candidate.long_form.clips", [1]),
        ("candidate.long_form.seconds", [0.5]),
        ("candidate.long_form.clips_found", [0, 1]),
        ("candidate.long_form.timestamp_error_s", [0]),
        ("candidate.short_context.clips", [1]),
        ("retention.clips", [1]),
        ("slices.0.clips", [1, 100]),
        ("slices.0.speakers", [0, 12]),
        ("slices.0.reference_words", [1]),
        ("slices.0.difference.wins", [0, 1]),
        ("wer_difference.wins", [0, 1]),
        ("candidate.rates.normalised.cer.low", [0]),
        ("slices.0.candidate.low", [0, 0.1]),
        ("slices.0.difference.high", [SOUND.slices[0].difference.value]),
    ],
)
def test_a_figure_at_the_edge_of_its_range_is_sound(path: str, values: list[Any]) -> None:
    assert [value for value in values if list(unsound_figures(changed(SOUND, path, value)))] == []


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all numbers."""
    if isinstance(value, int | float):
        yield path.removeprefix(".")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}.{place}")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}")


FIGURES = list(leaves(SOUND))


def test_the_figures_that_are_tried_are_all_of_them() -> None:
    assert len(FIGURES) > 250
    assert {"clips", "hours", "candidate.rates.raw.cer.low", "slices.7.difference.wins", "retention.base.high"} <= set(FIGURES)


# Each is judged by a rule of its own as well, or by that rule alone.
JUDGED_ALONE = {"version", "resamples", "confidence"}


@pytest.mark.parametrize("path", [path for path in FIGURES if path not in JUDGED_ALONE])
def test_a_figure_that_is_no_finite_number_is_refused_wherever_it_stands_and_whatever_is_asked_for(path: str) -> None:
    loosest = Policy(comparison="none", minimum_clips=1, **dict.fromkeys(OFF, -1))
    for figure in NOT_NUMBERS:
        decision = judged(changed(SOUND, path, figure), loosest)
        assert "sound_figures" in failed(decision), figure
        assert not decision.passed
        assert path.rsplit(".", 1)[0] in sentence(decision, "sound_figures")


SIGNED = ("wer_difference", ".loss.", ".difference.")


@pytest.mark.parametrize("path", [path for path in FIGURES if path not in JUDGED_ALONE and not any(sign in path for sign in SIGNED)])
def test_a_negative_figure_is_refused_where_none_can_be(path: str) -> None:
    assert "sound_figures" in failed(judged(changed(SOUND, path, -1)))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("candidate.rates.normalised.wer.low", 0.16, "candidate.rates.normalised.wer;"),
        ("candidate.rates.normalised.wer.high", 0.14, "candidate.rates.normalised.wer;"),
        ("baseline.rates.utterance-mean.cer.low", 0.9, "baseline.rates.utterance-mean.cer;"),
        ("candidate.rates.normalised.substitutions", 99, "candidate.rates.normalised.wer against its counts"),
        ("candidate.rates.raw.insertions", 11, "candidate.rates.raw.wer against its counts"),
        ("candidate.rates.normalised.reference_words", 1001, "candidate.rates.normalised.reference_words against the baseline's"),
        ("candidate.rates.utterance-mean.reference_words", 999, "candidate.rates.utterance-mean.reference_words against the baseline's"),
        ("baseline.rates.normalised.reference_words", 0, "baseline.rates.normalised.reference_words,"),
        ("baseline.package_sha256", "", "baseline.package_sha256"),
        ("candidate.looped", 101, "candidate.looped"),
        ("candidate.speed.latency_p95_s", 0.1, "candidate.speed.latency;"),
        ("candidate.hallucination.sounds", (), "candidate.hallucination.sounds"),
        ("candidate.hallucination.sounds.0.words", 1, "candidate.hallucination.words_a_minute against its sounds"),
        ("candidate.hallucination.sounds.1.seconds", 59.0, "candidate.hallucination.words_a_minute against its sounds"),
        ("candidate.hallucination.sounds.1.seconds", 0, "candidate.hallucination.sounds.1;"),
        ("candidate.hallucination.sounds.2.recordings", 0, "candidate.hallucination.sounds.2"),
        ("candidate.hallucination.sounds.3.looped", 7, "candidate.hallucination.sounds.3"),
        ("candidate.long_form.loss.value", 0.021, "candidate.long_form.loss against wer and wer_alone"),
        ("candidate.long_form.recordings", 0, "candidate.long_form.clips"),
        ("candidate.long_form.clips", 0, "candidate.long_form.clips"),
        ("candidate.long_form.seconds", 0, "candidate.long_form.seconds"),
        ("candidate.long_form.clips_found", 1.01, "candidate.long_form.clips_found"),
        ("candidate.short_context.wer.value", 0.17, "candidate.short_context.loss against wer and wer_full"),
        ("candidate.short_context.clips", 0, "candidate.short_context.clips"),
        ("retention.base.value", 0.19, "retention.loss against candidate and base"),
        ("retention.base_sha256", "package:whisper-base", "retention.base_sha256"),
        ("retention.clips", 0, "retention.clips"),
        ("wer_difference.low", -0.2, "wer_difference;"),
        ("wer_difference.high", -0.31, "wer_difference;"),
        ("wer_difference.value", -0.26, "wer_difference against the two WERs"),
        ("wer_difference.wins", 1.5, "wer_difference.wins"),
        ("slices.3.difference.value", -0.29, "slices.3.difference against candidate and baseline"),
        ("slices.3.clips", 0, "slices.3.clips"),
        ("slices.3.clips", 101, "slices.3.clips"),
        ("slices.3.speakers", 13, "slices.3.speakers"),
        ("slices.3.reference_words", 0, "slices.3.reference_words"),
        ("worst_slice", ("duration", "forever"), "worst_slice"),
        ("hours", 0, "hours"),
        ("speakers", 101, "speakers"),
    ],
)
def test_figures_that_contradict_each_other_are_refused_by_name(path: str, value: Any, named: str) -> None:
    decision = judged(changed(SOUND, path, value))
    assert "sound_figures" in failed(decision)
    assert named in sentence(decision, "sound_figures")


@pytest.mark.parametrize(
    "path",
    [
        "candidate",
        "baseline",
        "others",
        "slices",
        "wer_difference",
        "candidate.rates",
        "candidate.rates.normalised",
        "candidate.rates.raw.wer",
        "baseline.rates.utterance-mean",
        "candidate.speed",
        "candidate.hallucination.sounds",
        "candidate.hallucination.sounds.0",
        "candidate.long_form.loss",
        "candidate.short_context.wer",
        "retention.candidate",
        "slices.0",
        "slices.0.difference",
    ],
)
@pytest.mark.parametrize("nothing", [None, 3, "text", {}, []], ids=repr)
def test_a_part_that_is_missing_or_of_another_kind_is_refused_and_never_raises(path: str, nothing: Any) -> None:
    if path in ("others", "slices") and nothing in ({}, []):
        return  # empty, which is sound
    decision = judged(changed(SOUND, path, nothing))
    assert "sound_figures" in failed(decision)
    assert path.partition(".")[0] in sentence(decision, "sound_figures") or path == "others"
    assert explained(decision)


def test_an_evaluation_that_is_none_at_all_is_refused_by_every_rule() -> None:
    for nothing in (None, 3, {}):
        decision = judged(nothing)  # type: ignore[arg-type]
        assert len(failed(decision)) == 22
        assert decision.evaluation_sha256 == ""
        assert "known_version cannot be judged" in decision.reasons[0]
        assert {(rule.figure, rule.threshold) for rule in decision.rules} == {("unreadable", "readable")}


@pytest.mark.parametrize("protocol", ["normalised", "raw", "utterance-mean"])
@pytest.mark.parametrize("model", ["candidate", "baseline"])
def test_a_protocol_that_is_missing_is_refused(model: str, protocol: str) -> None:
    score = getattr(SOUND, model)
    rates = {name: rate for name, rate in score.rates.items() if name != protocol}
    assert "sound_figures" in failed(judged(replace(SOUND, **{model: replace(score, rates=rates)})))


def test_a_rate_by_an_unknown_protocol_must_be_sound_too() -> None:
    rates = {**SOUND.candidate.rates, "wishful": SOUND.candidate.rates["raw"]}
    decision = judged(replace(SOUND, candidate=replace(SOUND.candidate, rates=rates)))
    assert failed(decision) == {"sound_figures"}


@pytest.mark.parametrize("path", ["candidate.hallucination", "candidate.long_form", "candidate.short_context", "retention", "worst_slice"])
def test_what_was_not_measured_is_no_unsound_figure(path: str) -> None:
    assert "sound_figures" not in failed(judged(changed(SOUND, path, None)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[("confidence", value) for value in (0.9, 0.949, 0.991, 1.0, *NOT_NUMBERS)],
        *[("resamples", value) for value in (999, 1e4, -10_000, *NOT_NUMBERS)],
        *[("resampled", value) for value in ("", "words", None, [])],
    ],
    ids=repr,
)
def test_an_interval_that_promises_something_else_is_refused(path: str, value: Any) -> None:
    assert failed(judged(changed(SOUND, path, value))) == {"sound_intervals"}


@pytest.mark.parametrize(("path", "value"), [("confidence", 0.95), ("confidence", 0.99), ("resamples", 1000), ("resampled", "clips")])
def test_an_interval_that_promises_enough_passes(path: str, value: Any) -> None:
    assert judged(changed(SOUND, path, value)).passed


def with_clip(place: int, **changes: Any) -> list[ClipResult]:
    return [replace(clip, **changes) if number == place else clip for number, clip in enumerate(CLIPS)]


@pytest.mark.parametrize(
    ("clips", "amiss"),
    [
        (CLIPS[:99], "clips, "),
        ([*CLIPS, CLIPS[0]], "clips, "),
        ([*CLIPS[:98], CLIPS[0], CLIPS[99]], "clips,"),
        ([], "clips, speakers, hours, candidate's errors"),
        (with_clip(0, candidate_errors=0), "candidate's errors;"),
        (with_clip(0, candidate_errors=2), "candidate's errors;"),
        (with_clip(7, baseline_errors=4), "baseline's errors;"),
        (with_clip(7, reference_words=9), "candidate's reference words, baseline's reference words;"),
        (with_clip(7, duration_s=9.0), "hours;"),
        (with_clip(7, duration_s=math.nan), "hours;"),
        (with_clip(7, speaker_id="somebody else"), "speakers;"),
    ],
)
def test_clips_that_do_not_add_up_to_the_evaluation_are_refused(clips: list[ClipResult], amiss: str) -> None:
    decision = judged(SOUND, clips=clips)
    assert failed(decision) == {"clips_add_up"}
    assert f"in {amiss}" in decision.reasons[0]


@pytest.mark.parametrize("errors", [None, 1.0, "1", True, math.nan])
def test_a_clip_whose_errors_are_no_count_is_refused(errors: Any) -> None:
    for clips in (with_clip(0, candidate_errors=errors), with_clip(0, baseline_errors=errors), with_clip(0, reference_words=errors)):
        assert failed(judged(SOUND, clips=clips)) == {"clips_add_up"}


def test_clips_of_unknown_speakers_count_none() -> None:
    unknown = [replace(clip, speaker_id="") for clip in CLIPS]
    slices = tuple(replace(one, speakers=0) for one in SOUND.slices)
    assert judged(replace(SOUND, speakers=0, slices=slices), replace(STRICT, minimum_speakers=0), clips=unknown).passed


@pytest.mark.parametrize("digest", ["", None, "e" * 63, 0])
def test_an_evaluation_that_does_not_name_its_clips_is_refused(digest: Any) -> None:
    decision = judged(replace(SOUND, clips_sha256=digest))
    assert failed(decision) == {"clips_add_up"}
    assert "their sha256" in decision.reasons[0]


BY = Override(by="release-manager", reason="the old model answers in the wrong language")


def test_an_override_goes_past_judgement_and_says_who_and_why() -> None:
    decision = judged(SOUND, replace(STRICT, max_wer=0.1, minimum_clips=101), override=BY)
    assert decision.passed is True
    assert decision.verdict == "passed"
    assert decision.overridden
    assert decision.override == BY
    assert failed(decision) == {"max_wer", "minimum_clips"}
    assert decision.reasons[0] == "overridden by release-manager: the old model answers in the wrong language"
    assert decision.reasons[1:] == tuple(rule.sentence for rule in decision.failed)


BROKEN_INTEGRITY = {
    "known_version": {"version": 1},
    "same_package": {"candidate": replace(SOUND.candidate, package_sha256=OTHER)},
    "test_split": {"split": "validation"},
    "candidate_heard_every_clip": {"candidate": replace(SOUND.candidate, hypotheses=99)},
    "baseline_heard_every_clip": {"baseline": replace(SOUND.baseline, hypotheses=99)},
    "sound_figures": {"hours": math.nan},
    "sound_intervals": {"confidence": 0.5},
    "clips_add_up": {"clips_sha256": ""},
}


def test_every_rule_of_integrity_is_tried_against_an_override() -> None:
    assert set(BROKEN_INTEGRITY) == INTEGRITY


@pytest.mark.parametrize("name", BROKEN_INTEGRITY)
@pytest.mark.parametrize("policy", [STRICT, replace(STRICT, max_wer=0.1)], ids=["alone", "beside judgement"])
def test_no_override_goes_past_integrity(name: str, policy: Policy) -> None:
    decision = judged(replace(SOUND, **BROKEN_INTEGRITY[name]), policy, override=BY)
    assert name in failed(decision)
    assert not decision.passed
    assert not decision.overridden
    assert decision.override == BY
    assert not [reason for reason in decision.reasons if "overridden" in reason]
    assert f"no override reaches {next(rule.name for rule in decision.failed if rule.integrity)}" in explained_briefly(decision)


def test_an_override_that_was_not_needed_changes_nothing() -> None:
    decision = judged(SOUND, override=BY)
    assert decision.passed
    assert not decision.overridden
    assert decision.reasons == judged(SOUND).reasons
    assert "not needed (release-manager: the old model" in explained(decision)


@pytest.mark.parametrize(
    "override", [True, "release-manager", ("release-manager", "why"), object()], ids=["true", "text", "pair", "object"]
)
def test_only_an_override_overrides(override: Any) -> None:
    decision = judged(SOUND, replace(STRICT, max_wer=0.1), override=override)
    assert not decision.passed
    assert failed(decision) == {"max_wer"}


@pytest.mark.parametrize(
    ("by", "reason", "says"),
    [
        ("release-manager", "", "override_reason"),
        ("", "why", "override_by"),
        ("release-manager", "  ", "override_reason"),
        (" ", "why", "override_by"),
        ("As\ntrid", "why", "override_by"),
        ("release-manager", "\x1b[2J", "override_reason"),
    ],
)
def test_an_override_without_who_or_why_is_refused(by: str, reason: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        asked_override(by, reason)


def test_an_override_is_asked_for_with_both_or_not_at_all() -> None:
    assert asked_override("", "") is None
    assert asked_override("release-manager", "why") == Override(by="release-manager", reason="why")


def test_a_decision_over_hostile_figures_is_still_strict_json() -> None:
    for whole in (
        changed(SOUND, "candidate.rates.normalised.wer.value", math.nan),
        replace(SOUND, clips=10**400),
        replace(SOUND, version=None),  # type: ignore[arg-type]
        replace(SOUND, split="\x1b[2J" * 90),
        replace(SOUND, resampled="\x1b[2J" * 90),
        changed(SOUND, "slices.1.name", "\x1b[2J" * 90),
        replace(SOUND, hours=10**5000),
        replace(SOUND, engine=object()),  # type: ignore[arg-type]
        replace(SOUND, version=object()),  # type: ignore[arg-type]
    ):
        decision = judged(whole)
        text = json.dumps(decision_as_json(decision), allow_nan=False)
        assert json.loads(text)["passed"] is decision.passed
        assert "\x1b" not in explained(decision)


@pytest.mark.parametrize(
    ("policy", "override", "first"),
    [
        (STRICT, None, "passed: all 22 rules hold; the package may be promoted"),
        (replace(STRICT, max_wer=0.1), None, "rejected: 1 of 22 rules failed; nothing is promoted"),
        (replace(STRICT, max_wer=0.1), BY, "passed by override: 1 of 22 rules failed"),
    ],
    ids=["passed", "rejected", "overridden"],
)
def test_the_explanation_gives_every_rule_a_line_and_the_brief_one_those_that_failed(
    policy: Policy, override: Override | None, first: str
) -> None:
    decision = judged(SOUND, policy, override=override)
    head, *lines = explained(decision).splitlines()
    brief_head, *brief_lines = explained_briefly(decision).splitlines()
    assert head == brief_head == first
    if override:
        assert lines.pop(0) == brief_lines.pop(0) == f"  overridden by {override.by}: {override.reason}"
    assert lines == [f"  {'yes' if rule.passed else 'NO '}  {rule.sentence}" for rule in decision.rules]
    assert brief_lines == [f"  NO   {rule.sentence}" for rule in decision.failed]


_LOOSEST = Policy(comparison="none", minimum_clips=1, **dict.fromkeys(OFF, -1))
_TIGHTEST = Policy(
    max_wer=0.1,
    comparison="not-worse",
    max_hallucinated_words=0.25,
    max_looped=0,
    max_context_loss=0,
    max_long_form_loss=0,
    max_timestamp_error=0.05,
    max_retention_loss=0,
    min_speed=100,
    max_latency=0.3,
    minimum_clips=101,
    minimum_speakers=13,
    minimum_hours=1.5,
)
_UNMEASURED = replace(
    SOUND,
    candidate=replace(
        SOUND.candidate,
        hallucination=None,
        long_form=None,
        short_context=None,
        speed=replace(SOUND.candidate.speed, latency_clips=0),
    ),
    slices=(),
    worst_slice=None,
    retention=None,
)
_HOSTILE = replace(
    SOUND,
    version=1,
    split="train",
    clips=10**400,
    hours=math.nan,
    speakers=None,
    resampled="words",
    confidence="0.95",
    wer_difference=None,
    clips_sha256="",
    slices=(replace(SOUND.slices[0], name="a" * 90, difference=difference(math.nan, 0)),),
    baseline=replace(SOUND.baseline, hypotheses=True),
    candidate=changed(replace(SOUND.candidate, package_sha256="another", looped=-math.inf), "rates.normalised.wer.high", math.inf),
)
SAID: dict[str, Callable[[], Decision]] = {
    "all that may be asked for, and kept": lambda: judged(SOUND),
    "nothing asked for": lambda: judged(SOUND, _LOOSEST),
    "nothing kept": lambda: judged(replace(with_worse_slice(50), wer_difference=difference(-0.3, 0.4)), _TIGHTEST),
    "nothing measured": lambda: judged(_UNMEASURED),
    "small slices": lambda: judged(replace(SOUND, slices=(SOUND.slices[7],), worst_slice=None)),
    "hostile figures": lambda: judged(_HOSTILE, clips=[*CLIPS[:98], CLIPS[0]]),
    "no candidate": lambda: judged(replace(SOUND, candidate=None)),  # type: ignore[arg-type]
    "overridden": lambda: judged(SOUND, replace(STRICT, max_wer=0.1), override=BY),
    "an override that is not needed": lambda: judged(SOUND, override=BY),
    "an override that does not reach": lambda: judged(replace(SOUND, split="train", confidence=0.9), override=BY),
}


@pytest.mark.parametrize("case", SAID)
def test_what_the_rules_say_is_the_golden_text(case: str) -> None:
    path = Path(__file__).parents[1] / "golden" / "gate.txt"
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        path.write_text("".join(f"# {name}\n\n{_said(decide_it())}\n\n" for name, decide_it in SAID.items()), encoding="utf-8")
    assert f"# {case}\n\n{_said(SAID[case]())}\n\n" in path.read_text(encoding="utf-8")


def _said(decision: Decision) -> str:
    figures = [f"{rule.name}: {rule.figure!r} | {rule.threshold!r}" for rule in decision.rules]
    return "\n".join([explained(decision), *figures])

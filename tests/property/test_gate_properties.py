"""The gate over evaluations that anything may have written: whole files, with any value anywhere."""

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluations import CANDIDATE, clip_results, evaluation
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avskrift.errors import EvaluationError, UsageError
from avskrift.evaluation.decision import Override
from avskrift.evaluation.decision_file import explained, read_decision, write_decision
from avskrift.evaluation.gate import decide
from avskrift.evaluation.judgement_rules import JUDGEMENT_RULES
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import Evaluation
from avskrift.evaluation.result_file import evaluation_as_json, read_evaluation
from avskrift.evaluation.sealed import with_seal

SOUND = json.loads(json.dumps(evaluation_as_json(evaluation())))
CLIPS = clip_results()
POLICY = Policy(max_timestamp_error=0.1, max_retention_loss=0.05, max_latency=0.5, min_speed=2)
OVERRIDE = Override(by="release-manager", reason="why")

# Descriptive fields: nothing is decided on them.
FREE = {"dataset_fingerprint", "language", "normaliser", "engine", "machine", "uri", "base_uri", "kind", "name"}


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, inner in enumerate(value) for leaf in leaves(inner, (*path, place))]
    return [path]


PATHS = leaves(SOUND)
DECISIVE = [path for path in PATHS if path[-1] not in FREE]
NUMBERS = st.one_of(st.floats(), st.integers(), st.floats(-1, 1), st.integers(-3, 200), st.integers(10**308, 10**320))
JSON = st.one_of(
    NUMBERS, st.none(), st.booleans(), st.text(max_size=8), st.lists(NUMBERS, max_size=2), st.dictionaries(st.text(max_size=3), NUMBERS)
)


def written(folder: Path, value: Any) -> Path:
    (folder / "evaluation.json").write_text(json.dumps(with_seal(value)), encoding="utf-8")
    return folder


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    return at(value[path[0]], path[1:]) if path else value


def with_value(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(SOUND)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def finite(*figures: Any) -> bool:
    return all(isinstance(figure, (int, float)) and not isinstance(figure, bool) and math.isfinite(figure) for figure in figures)


def deserves_to_pass(whole: Evaluation) -> bool:
    """What passing promises, written down a second time."""
    candidate, baseline, difference = whole.candidate, whole.baseline, whole.wer_difference
    heard, joined, short, kept = candidate.hallucination, candidate.long_form, candidate.short_context, whole.retention
    if not (heard and joined and short and kept):
        return False
    return (
        finite(candidate.wer.value, candidate.wer.high, baseline.wer.value, difference.low, difference.value, difference.high)
        and 0 <= candidate.wer.value <= candidate.wer.high <= POLICY.max_wer
        and difference.high < 0
        and candidate.wer.value < baseline.wer.value
        and candidate.hypotheses == baseline.hypotheses == whole.clips == len(CLIPS) >= POLICY.minimum_clips
        and candidate.package_sha256 == CANDIDATE
        and whole.version == 2
        and whole.split == "test"
        and 0.95 <= whole.confidence < 1
        and whole.resamples >= 1000
        and candidate.looped <= 2
        and 0 <= heard.words_a_minute.value <= 10
        and short.loss.high <= 0.05
        and joined.loss.high <= 0.1
        and 0 <= joined.timestamp_error_s <= 0.1
        and kept.loss.high <= 0.05
        and candidate.speed.audio_seconds_per_second >= 2
        and 0 <= candidate.speed.latency_p95_s <= 0.5
        and all(one.difference.low <= 0 for one in whole.slices if one.clips >= 10)
    )


def test_the_evaluation_that_the_others_start_from_passes(tmp_path: Path) -> None:
    assert decide(read_evaluation(written(tmp_path, SOUND)), POLICY, package_sha256=CANDIDATE, clips=CLIPS).passed


@settings(max_examples=400)
@given(path=st.sampled_from(PATHS), value=JSON, override=st.sampled_from([None, OVERRIDE]))
@example(path=("candidate", "rates", "normalised", "wer", "high"), value=math.nan, override=None)
@example(path=("wer_difference", "high"), value=-math.inf, override=None)
@example(path=("clips",), value=10**310, override=OVERRIDE)
@example(path=("slices", 0, "difference", "low"), value=math.nan, override=OVERRIDE)
def test_no_value_anywhere_makes_the_gate_fall_or_pass_what_does_not_deserve_it(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[str | int, ...], value: Any, override: Override | None
) -> None:
    folder = tmp_path_factory.mktemp("evaluation")
    try:
        whole = read_evaluation(written(folder, with_value(path, value)))
    except EvaluationError:
        return
    decision = decide(whole, POLICY, package_sha256=CANDIDATE, clips=CLIPS, override=override)
    assert decision.reasons
    assert decision.passed is (not decision.failed or (override is not None and not any(rule.integrity for rule in decision.failed)))
    assert not decision.passed or decision.overridden or deserves_to_pass(whole)
    assert explained(decision)
    write_decision(folder, decision)
    assert read_decision(folder) == decision


@settings(max_examples=200)
@given(path=st.sampled_from(DECISIVE), value=st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.just([])))
def test_no_figure_that_matters_may_be_missing_whoever_overrides(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[str | int, ...], value: Any
) -> None:
    if path[0] == "worst_slice" and value in (None, []):
        return  # no slice was large enough
    try:
        whole = read_evaluation(written(tmp_path_factory.mktemp("evaluation"), with_value(path, value)))
    except EvaluationError:
        return
    assert not decide(whole, POLICY, package_sha256=CANDIDATE, clips=CLIPS, override=OVERRIDE).passed


BOUNDS = {rule.name for rule in JUDGEMENT_RULES} - {"comparison"}


@settings(max_examples=200)
@given(bound=st.sampled_from(sorted(BOUNDS)), limits=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_tighter_bound_never_passes_what_a_looser_one_refuses(bound: str, limits: tuple[float, float]) -> None:
    tight, loose = sorted(limits) if bound.startswith("max") else sorted(limits, reverse=True)

    def holds(limit: float) -> bool:
        value = 1 + int(limit * 200) if bound in ("minimum_clips", "minimum_speakers") else limit
        decision = decide(evaluation(), dataclasses.replace(POLICY, **{bound: value}), package_sha256=CANDIDATE, clips=CLIPS, override=None)
        return bound not in {rule.name for rule in decision.failed}

    assert holds(loose) or not holds(tight)


@settings(max_examples=200)
@given(bound=st.sampled_from([field.name for field in dataclasses.fields(Policy)]), value=JSON)
def test_a_policy_is_made_of_finite_numbers_or_not_at_all(bound: str, value: Any) -> None:
    try:
        held = getattr(Policy(**{bound: value}), bound)
    except UsageError:
        return
    assert held in ("better", "not-worse", "none") if bound == "comparison" else (finite(held) and held >= -1)

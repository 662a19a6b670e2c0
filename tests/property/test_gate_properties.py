"""The gate over evaluations that anything may have written: whole files, with any value anywhere."""

import copy
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from avskrift.errors import EvaluationError
from avskrift.evaluation.gate import Policy, decide, decision_as_json, explain, read_decision
from avskrift.evaluation.result import Evaluation, read_evaluation

SOUND = json.loads((Path(__file__).parents[1] / "golden" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
SHA256 = SOUND["candidate"]["package_sha256"]
POLICY = Policy(max_wer=0.6, minimum_clips=5)

# Descriptive fields: nothing is decided on them.
FREE = {("dataset_fingerprint",), ("language",), ("normaliser",), ("engine",), ("candidate", "uri"), ("baseline", "uri")}


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [path]


PATHS = leaves(SOUND)
NUMBERS = st.one_of(st.floats(), st.integers(), st.floats(-1, 1), st.integers(-3, 50), st.integers(10**308, 10**320))
JSON = st.one_of(
    NUMBERS, st.none(), st.booleans(), st.text(max_size=8), st.lists(NUMBERS, max_size=2), st.dictionaries(st.text(max_size=3), NUMBERS)
)


def written(folder: Path, value: Any) -> Path:
    (folder / "evaluation.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def at(value: Any, path: tuple[str, ...]) -> Any:
    return at(value[path[0]], path[1:]) if path else value


def with_value(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(SOUND)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def finite(*figures: Any) -> bool:
    return all(isinstance(figure, (int, float)) and not isinstance(figure, bool) and math.isfinite(figure) for figure in figures)


def deserves_to_pass(evaluation: Evaluation) -> bool:
    """What passing promises, written down a second time."""
    candidate, baseline, difference = evaluation.candidate, evaluation.baseline, evaluation.wer_difference
    return (
        finite(candidate.wer.value, baseline.wer.value, difference.low, difference.value, difference.high)
        and 0 <= candidate.wer.value <= POLICY.max_wer
        and difference.high < 0
        and candidate.wer.value < baseline.wer.value
        and candidate.hypotheses == baseline.hypotheses == evaluation.clips >= POLICY.minimum_clips
        and candidate.package_sha256 == SHA256
        and evaluation.version == 1
        and evaluation.split == "test"
        and 0.95 <= evaluation.confidence < 1
    )


def test_the_evaluation_that_the_others_start_from_passes(tmp_path: Path) -> None:
    assert decide(read_evaluation(written(tmp_path, SOUND)), POLICY, package_sha256=SHA256).passed


@settings(max_examples=400)
@given(path=st.sampled_from(PATHS), value=JSON)
@example(path=("candidate", "wer", "value"), value=math.nan)
@example(path=("wer_difference", "high"), value=-math.inf)
@example(path=("clips",), value=10**310)
def test_no_value_anywhere_makes_the_gate_fall_or_pass_what_does_not_deserve_it(
    tmp_path_factory, path: tuple[str, ...], value: Any
) -> None:
    folder = written(tmp_path_factory.mktemp("evaluation"), with_value(path, value))
    try:
        evaluation = read_evaluation(folder)
    except EvaluationError:
        return
    decision = decide(evaluation, POLICY, package_sha256=SHA256)
    assert decision.reasons
    assert decision.passed == all(rule.passed for rule in decision.rules)
    assert not decision.passed or deserves_to_pass(evaluation)
    assert explain(decision)
    (folder / "decision.json").write_text(json.dumps(decision_as_json(decision), allow_nan=False), encoding="utf-8")
    assert read_decision(folder) == decision


@settings(max_examples=200)
@given(
    path=st.sampled_from([path for path in PATHS if path not in FREE]),
    value=st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.just([])),
)
def test_no_figure_that_matters_may_be_missing(tmp_path_factory, path: tuple[str, ...], value: Any) -> None:
    evaluation = read_evaluation(written(tmp_path_factory.mktemp("evaluation"), with_value(path, value)))
    assert not decide(evaluation, POLICY, package_sha256=SHA256).passed

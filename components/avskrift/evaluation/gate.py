"""The gate: may this package take over? A pure decision over an evaluation, and it fails closed."""

from __future__ import annotations

from collections.abc import Sequence

from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.decision import Decision, Override, failed_rules, may_pass
from avskrift.evaluation.integrity_rules import INTEGRITY_RULES
from avskrift.evaluation.judgement_rules import JUDGEMENT_RULES
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import Evaluation
from avskrift.evaluation.result_file import evaluation_seal
from avskrift.evaluation.rule import Case

RULES = (*INTEGRITY_RULES, *JUDGEMENT_RULES)


def decide(
    evaluation: Evaluation, policy: Policy, *, package_sha256: str, clips: Sequence[ClipResult], override: Override | None = None
) -> Decision:
    """Decide whether the package with this sha256 may be promoted on this evaluation and its per-clip results.

    Never raises for what an evaluation holds: wrong types and figures that are missing or not finite are refused, with
    the reason. An ``override`` goes past rules of judgement, never past one of integrity.
    """
    case = Case(evaluation=evaluation, clips=clips, policy=policy, package_sha256=package_sha256)
    rules = tuple(rule.result(case) for rule in RULES)
    failed = tuple(rule.sentence for rule in failed_rules(rules))
    passed = may_pass(rules, override)
    overridden = (f"overridden by {override.by}: {override.reason}",) if override and passed and failed else ()
    return Decision(
        passed=passed,
        reasons=(*overridden, *failed) or tuple(rule.sentence for rule in rules),
        rules=rules,
        evaluation_sha256=_seal(evaluation),
        override=override,
    )


def _seal(evaluation: Evaluation) -> str:
    """Empty for what no file holds: nothing that reads an evaluation from one takes such a decision."""
    try:
        return evaluation_seal(evaluation)
    except (TypeError, ValueError, RecursionError):
        return ""

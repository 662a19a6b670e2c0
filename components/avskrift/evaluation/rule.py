"""What a rule of the gate is. Each says what must be true, and whatever it cannot look at it refuses.

Rules are written as ``x <= limit``, never as ``not (x > limit)``: a NaN answers no to every comparison, and here no means
refused. :func:`avskrift.evaluation.soundness.number` turns all that is no finite number into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.decision import Figure, RuleResult
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.result import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged: an evaluation with its per-clip results, by a policy, for the package with this sha256."""

    evaluation: Evaluation
    clips: Sequence[ClipResult]
    policy: Policy
    package_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found; see :class:`RuleResult`."""

    passed: bool
    figure: Figure
    threshold: Figure
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule by its name; those of judgement have the name of the policy's bound."""

    name: str
    integrity: bool
    judge: Callable[[Case], Finding]

    def result(self, case: Case) -> RuleResult:
        """What the rule says of the case. Never raises: an evaluation may hold anything anywhere, and is then refused."""
        try:
            found = self.judge(case)
        except Exception as error:
            found = _unreadable(self.name, error)
        return RuleResult(
            name=self.name,
            integrity=self.integrity,
            passed=found.passed is True,
            figure=found.figure,
            threshold=found.threshold,
            sentence=found.sentence,
        )


def _unreadable(name: str, error: Exception) -> Finding:
    return Finding(
        passed=False,
        figure="unreadable",
        threshold="readable",
        sentence=f"{name} cannot be judged: what it looks at is missing or of another kind ({type(error).__name__})",
    )

"""The gate's word: what was looked at, what came out, and who went past it."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.errors import UsageError

Figure = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule: the figure it looked at, the threshold, and both in a sentence.

    Figures are JSON values; what is not finite, or no number at all where one belongs, stands as text. ``integrity``: the rule
    asks whether the evaluation says anything about this package, and no person can decide that it does.
    """

    name: str
    integrity: bool
    passed: bool
    figure: Figure
    threshold: Figure
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Who promotes a package past the gate's judgement, and why. Both are recorded wherever the decision is.

    Raises:
        UsageError: one of them is missing, or is no line of text.
    """

    by: str
    reason: str

    def __post_init__(self) -> None:
        for name, text in (("override_by", self.by), ("override_reason", self.reason)):
            if not isinstance(text, str) or not text.strip():
                raise UsageError(f"{name} is empty; an override names who decides and why")
            if not text.isprintable():
                raise UsageError(f"{name} holds line breaks or control characters; write it as one line of text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gate's decision.

    ``reasons``: the sentences of the rules that failed or, where none did, of all of them; those that a person went past come
    after who did and why. ``evaluation_sha256`` is the seal of the evaluation that was judged, empty where it has none.
    """

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[RuleResult, ...]
    evaluation_sha256: str
    override: Override | None = None

    @property
    def verdict(self) -> str:
        """``passed`` or ``rejected``: what a pipeline branches on, since KFP compares booleans as text."""
        return "passed" if self.passed else "rejected"

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        return failed_rules(self.rules)

    @property
    def overridden(self) -> bool:
        """Whether it passed although a rule failed."""
        return self.passed and bool(self.failed)


def failed_rules(rules: tuple[RuleResult, ...]) -> tuple[RuleResult, ...]:
    """Those that did not pass; anything but True did not."""
    return tuple(rule for rule in rules if rule.passed is not True)


def may_pass(rules: tuple[RuleResult, ...], override: Override | None) -> bool:
    """Whether rules with these results let a package through: none failed, or none that a person may not go past."""
    failed = failed_rules(rules)
    if not rules or any(rule.integrity is not False for rule in failed):
        return False
    return not failed or isinstance(override, Override)


def asked_override(by: str, reason: str) -> Override | None:
    """The override that a form or a command asks for; none where both are empty.

    Raises:
        UsageError: one without the other.
    """
    return Override(by=by, reason=reason) if by or reason else None

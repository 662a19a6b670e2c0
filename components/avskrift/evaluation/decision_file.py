"""``decision.json``: the gate's decision, sealed like the evaluation that it names, and its wording for a terminal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from avskrift.errors import EvaluationError
from avskrift.evaluation.decision import Decision, may_pass
from avskrift.evaluation.sealed import read_sealed, with_seal
from avskrift.storage.atomic import write_json

DECISION_FILE = "decision.json"
_REMEDY = "run the gate again"


def write_decision(folder: Path, decision: Decision) -> None:
    """Write ``decision.json`` into ``folder``.

    Raises:
        DiskFullError, StorageError: it cannot be written.
    """
    write_json(folder / DECISION_FILE, with_seal(decision_as_json(decision)))


def read_decision(folder: Path) -> Decision:
    """Read ``decision.json``.

    Raises:
        EvaluationError: it is missing, breaks the contract, or says what its rules do not say.
        IntegrityError: it is not what the gate wrote.
    """
    path = folder / DECISION_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {DECISION_FILE}; make one with `avskrift gate`")
    decision = read_sealed(path, Decision, name="a decision", author="the gate", remedy=_REMEDY)
    if decision.passed is not may_pass(decision.rules, decision.override):
        raise EvaluationError(f"{path}: its verdict is not what its rules come to; {_REMEDY}")
    return decision


def decision_as_json(decision: Decision) -> dict[str, Any]:
    """The decision as plain JSON values, without NaN or infinity."""
    return dataclasses.asdict(decision)


def explained(decision: Decision) -> str:
    """The decision for a terminal: the verdict, who overrode it, then a line for every rule."""
    lines = [f"  {'yes' if rule.passed else 'NO ':3}  {rule.sentence}" for rule in decision.rules]
    return "\n".join([_verdict(decision), *_override(decision), *lines])


def explained_briefly(decision: Decision) -> str:
    """The verdict, who overrode it, and the rules that failed."""
    lines = [f"  NO   {rule.sentence}" for rule in decision.failed]
    return "\n".join([_verdict(decision), *_override(decision), *lines])


def _verdict(decision: Decision) -> str:
    if decision.overridden:
        return f"passed by override: {len(decision.failed)} of {len(decision.rules)} rules failed"
    if decision.passed:
        return f"passed: all {len(decision.rules)} rules hold; the package may be promoted"
    return f"rejected: {len(decision.failed)} of {len(decision.rules)} rules failed; nothing is promoted"


def _override(decision: Decision) -> list[str]:
    if decision.override is None:
        return []
    asked = f"{decision.override.by}: {decision.override.reason}"
    if decision.overridden:
        return [f"  overridden by {asked}"]
    if decision.passed:
        return [f"  an override was not needed ({asked})"]
    beyond = ", ".join(rule.name for rule in decision.failed if rule.integrity)
    return [f"  no override reaches {beyond} ({asked})"]

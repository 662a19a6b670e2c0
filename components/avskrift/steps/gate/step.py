"""gate: read an evaluation, decide, and leave the decision with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import StorageError, UsageError
from avskrift.evaluation.gate import DECISION_FILE, Decision, Policy, decide, decision_as_json
from avskrift.evaluation.result import read_evaluation
from avskrift.logs import Log
from avskrift.storage.atomic import sweep, write_json

_log = Log("gate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The evaluation folder, the package that would be promoted, and what it must show (see ``Policy``)."""

    evaluation: str | Path
    package_sha256: str
    out: str | Path
    max_wer: float = Policy().max_wer
    require_better: bool = Policy().require_better
    minimum_clips: int = Policy().minimum_clips


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The decision, and the folder that holds it as ``decision.json``."""

    folder: Path
    decision: Decision

    @property
    def passed(self) -> bool:
        return self.decision.passed

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.decision.reasons

    @property
    def verdict(self) -> str:
        """``passed`` or ``rejected``."""
        return self.decision.verdict


def run(config: Config) -> Result:
    """Decide, and write ``decision.json`` under ``config.out``. A rejection is a result, not an error.

    An older decision there is removed first: it must not speak for an evaluation that could not be read.

    Raises:
        UsageError: a policy under which no decision has a meaning.
        EvaluationError: the evaluation is missing or cannot be read; no decision is written.
        DiskFullError, StorageError: the decision cannot be written, or an older one not removed.
    """
    _check(config)
    folder = Path(config.out)
    sweep(folder)
    _forget(folder / DECISION_FILE)
    evaluation = read_evaluation(Path(config.evaluation))
    policy = Policy(max_wer=config.max_wer, require_better=config.require_better, minimum_clips=config.minimum_clips)
    decision = decide(evaluation, policy, package_sha256=config.package_sha256)
    write_json(folder / DECISION_FILE, decision_as_json(decision))
    failed = [rule.name for rule in decision.rules if not rule.passed]
    _log.info("gate.decided", verdict=decision.verdict, failed=", ".join(failed) or "none")
    return Result(folder=folder, decision=decision)


def _check(config: Config) -> None:
    if not (math.isfinite(config.max_wer) and config.max_wer >= 0):
        raise UsageError(f"max_wer {config.max_wer}: give a fraction of 0 or more, such as 0.3 for 30 %")
    if config.minimum_clips < 1:
        raise UsageError(f"minimum_clips {config.minimum_clips}: a decision needs one clip at least")


def _forget(decision: Path) -> None:
    try:
        decision.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{decision}: an older decision cannot be removed ({error.strerror}); remove it or choose another folder"
        ) from error

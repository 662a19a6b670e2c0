"""gate: read an evaluation, decide, and leave the decision with its reasons."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from avskrift.errors import StorageError
from avskrift.evaluation.clip_audio import read_audio
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.decision import Decision, asked_override
from avskrift.evaluation.decision_file import DECISION_FILE, write_decision
from avskrift.evaluation.gate import decide
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_markdown import SUMMARY_FILE, render_markdown
from avskrift.evaluation.result import REPORT_FILE
from avskrift.evaluation.result_file import read_evaluation
from avskrift.logs import Log
from avskrift.storage.atomic import atomic_file, refuse_to_replace, sweep

_log = Log("gate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The evaluation folder, the package that would be promoted, what it must show, and who goes past it and why, if anybody."""

    evaluation: str | Path
    package_sha256: str
    out: str | Path
    policy: Policy = field(default_factory=Policy)
    override_by: str = ""
    override_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The decision, and the folder that holds it: ``decision.json``, ``report.html`` and ``summary.md``."""

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

    def copy_report(self, target: str | Path) -> None:
        """Copy the report to ``target``, a file: an HTML artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        _copy(self.folder / REPORT_FILE, Path(target))

    def copy_summary(self, target: str | Path) -> None:
        """Copy the summary to ``target``, a file: a Markdown artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        _copy(self.folder / SUMMARY_FILE, Path(target))


def run(config: Config) -> Result:
    """Decide, and write the decision and its pages under ``config.out``. A rejection is a result, not an error.

    An older decision there is removed first: it must not speak for an evaluation that could not be read.

    Raises:
        UsageError: an override without who or why.
        EvaluationError: the evaluation or its per-clip results are missing or cannot be read; no decision is written.
        IntegrityError: they are not what evaluate wrote; no decision is written.
        DiskFullError, StorageError: the decision cannot be written, an older one not removed, or the folder holds other files.
    """
    override = asked_override(config.override_by, config.override_reason)
    folder = Path(config.out)
    refuse_to_replace(folder, unless=DECISION_FILE)
    sweep(folder)
    for name in (DECISION_FILE, REPORT_FILE, SUMMARY_FILE):
        _forget(folder / name)
    evaluation = read_evaluation(Path(config.evaluation))
    clips = read_clip_results(Path(config.evaluation), sha256=evaluation.clips_sha256)
    decision = decide(evaluation, config.policy, package_sha256=config.package_sha256, clips=clips, override=override)
    _write_text(folder / REPORT_FILE, render_report(evaluation, clips, decision, read_audio(Path(config.evaluation), clips)))
    _write_text(folder / SUMMARY_FILE, render_markdown(evaluation, decision))
    write_decision(folder, decision)  # last: where it stands, all of it stands
    _log_decision(decision)
    return Result(folder=folder, decision=decision)


def look(evaluation: str | Path, policy: Policy) -> Decision:
    """What would be decided of the package that was evaluated, whichever that was. Nothing is written, so nothing is promoted by it.

    Raises:
        EvaluationError, IntegrityError: as :func:`run`.
    """
    found = read_evaluation(Path(evaluation))
    clips = read_clip_results(Path(evaluation), sha256=found.clips_sha256)
    return decide(found, policy, package_sha256=found.candidate.package_sha256, clips=clips)


def _log_decision(decision: Decision) -> None:
    failed = ", ".join(rule.name for rule in decision.failed) or "none"
    _log.info("gate.decided", verdict=decision.verdict, failed=failed)
    if decision.override is not None:
        asked = {"by": decision.override.by, "reason": decision.override.reason, "failed": failed}
        _log.warning("gate.overridden" if decision.overridden else "gate.override_without_effect", **asked)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


def _forget(older: Path) -> None:
    try:
        older.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{older}: an older decision cannot be removed ({error.strerror}); remove it or choose another folder"
        ) from error

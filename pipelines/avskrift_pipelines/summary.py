"""What a local run came to, for programs (JSON) and for people (before and after)."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avskrift.errors import StepFailedError
from avskrift.evaluation.clip_results import ClipResult, read_clip_results
from avskrift.evaluation.decision_file import read_decision
from avskrift.evaluation.result import REPORT_FILE
from avskrift.evaluation.result_file import read_evaluation
from avskrift.steps.deploy.step import RESULT_FILE
from avskrift.steps.prepare.step import SAMPLE_FILE
from avskrift_pipelines.local import LocalRun

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Rates are fractions, times seconds. ``model_version``, ``endpoint`` and ``transcript`` are empty where the gate refused."""

    wer_before: float
    wer_after: float
    wer_after_ci: tuple[float, float]
    cer_after: float
    gate_passed: bool
    gate_reasons: tuple[str, ...]
    model_version: str
    endpoint: str
    transcript: str
    seconds: dict[str, float]
    peak_rss_mb: int
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A summary with what only a person wants to see."""

    summary: Summary
    examples: tuple[ClipResult, ...]
    sample: Path
    report: Path


def summarise(run: LocalRun) -> Outcome:
    """Read a finished run's artifacts.

    Raises:
        StepFailedError: an artifact that every finished run has is missing.
    """
    evaluation_folder = _needed(run, "evaluate", "evaluation")
    evaluation = read_evaluation(evaluation_folder)
    decision_folder = _needed(run, "gate", "decision")
    decision = read_decision(decision_folder)
    deployed = _deployed(run)
    wer = evaluation.candidate.wer
    seconds = {"total": round(run.seconds, 1)} | {name: round(record.seconds, 1) for name, record in run.steps.items()}
    summary = Summary(
        wer_before=evaluation.baseline.wer.value,
        wer_after=wer.value,
        wer_after_ci=(wer.low, wer.high),
        cer_after=evaluation.candidate.cer.value,
        gate_passed=decision.passed,
        gate_reasons=decision.reasons,
        model_version=str(deployed.get("version", "")),
        endpoint=str(deployed.get("url", "")),
        transcript=str(deployed.get("transcript", "")),
        seconds=seconds,
        peak_rss_mb=round(run.peak_rss_mb),
        run=run.folder.name,
    )
    return Outcome(
        summary=summary,
        examples=_telling(read_clip_results(evaluation_folder, sha256=evaluation.clips_sha256)),
        sample=_within_reach(_needed(run, "prepare", "sample") / SAMPLE_FILE, run.folder / SAMPLE_FILE),
        report=decision_folder / REPORT_FILE,
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain JSON values."""
    return asdict(summary)


def show(outcome: Outcome, console: Console) -> None:
    """Before and after, three sentences side by side, and how to ask the endpoint."""
    summary = outcome.summary
    low, high = summary.wer_after_ci
    console.print()
    console.print(f"  WER before  {summary.wer_before:6.1%}", highlight=False)
    console.print(f"  WER after   {summary.wer_after:6.1%}  (95 % interval {low:.1%} to {high:.1%})", style="bold", highlight=False)
    console.print(f"  Gate        {'passed' if summary.gate_passed else 'rejected'}", highlight=False)
    for reason in () if summary.gate_passed else summary.gate_reasons:
        console.print(f"    {reason}", markup=False, highlight=False)
    console.print(_side_by_side(outcome.examples))
    minutes = summary.seconds["total"] / 60
    console.print(
        f"  {minutes:.1f} minutes, at most {summary.peak_rss_mb / 1024:.1f} GB of memory. Report: {outcome.report}",
        soft_wrap=True,
        highlight=False,
    )
    if summary.endpoint:
        said = f"  Version {summary.model_version} is registered in MLflow and answers at {summary.endpoint}. Ask it:"
        console.print(f"{said}\n\n  {curl_line(summary.endpoint, outcome.sample)}\n", soft_wrap=True, markup=False, highlight=False)


def _within_reach(source: Path, target: Path) -> Path:
    """The sample under a name short enough to paste, relative to the working folder where it lies below it."""
    shutil.copyfile(source, target)
    return target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target


def curl_line(endpoint: str, recording: Path) -> str:
    """A command that transcribes ``recording`` when pasted into a shell."""
    return f"curl -s {endpoint}/openai/v1/audio/transcriptions -F {shlex.quote(f'file=@{recording}')}"


def _side_by_side(examples: tuple[ClipResult, ...]) -> Table:
    table = Table(title="Test sentences", title_justify="left", padding=(0, 1))
    for heading in ("said", "heard before", "heard after"):
        table.add_column(heading, overflow="fold")
    for clip in examples:
        table.add_row(escape(clip.reference), escape(clip.baseline), escape(clip.candidate))
        table.add_section()
    return table


def _telling(clips: list[ClipResult]) -> tuple[ClipResult, ...]:
    """The clips of median improvement, so that nothing is shown at its best or worst."""
    sentences = {clip.reference: clip for clip in clips}.values()  # of a sentence with several speakers, one
    ordered = sorted(sentences, key=lambda clip: (clip.baseline_errors - clip.candidate_errors, clip.clip_id))
    middle = len(ordered) // 2
    return tuple(ordered[max(0, middle - 1) : middle + _EXAMPLES - 1])


def _deployed(run: LocalRun) -> dict[str, Any]:
    folder = run.artifact("deploy", "deployment")
    if folder is None:
        return {}
    found: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    return found


def _needed(run: LocalRun, task: str, name: str) -> Path:
    path = run.artifact(task, name)
    if path is None:
        raise StepFailedError(f"{run.folder}: {task} left no {name}; its output is in {run.folder / 'run.log'}")
    return path

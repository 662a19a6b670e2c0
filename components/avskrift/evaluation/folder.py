"""The evaluation folder: ``evaluation.json``, ``clips.jsonl`` and ``report.html``, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avskrift.errors import EvaluationError
from avskrift.evaluation.clip_results import ClipResult, write_clip_results
from avskrift.evaluation.report import render_report
from avskrift.evaluation.result import REPORT_FILE, RESULT_FILE, Evaluation, evaluation_as_json
from avskrift.evaluation.soundness import unsound_figures
from avskrift.storage.atomic import atomic_folder, write_json


def write_evaluation(out: Path, evaluation: Evaluation, clips: Sequence[ClipResult]) -> None:
    """Write the folder ``out``; an older one is replaced.

    Raises:
        EvaluationError: a figure is not finite, out of its range or at odds with another; nothing is written.
        DiskFullError, StorageError: it cannot be written; nothing remains of the attempt.
    """
    unsound = ", ".join(unsound_figures(evaluation))
    if unsound:
        raise EvaluationError(f"the evaluation holds figures that cannot be right ({unsound}); evaluate the package again")
    with atomic_folder(out) as folder:
        try:
            write_json(folder / RESULT_FILE, evaluation_as_json(evaluation))
            write_clip_results(folder, clips)
        except ValueError as error:
            raise EvaluationError(f"{out}: a figure or text cannot be written as JSON ({error}); evaluate the package again") from error
        (folder / REPORT_FILE).write_text(render_report(evaluation, clips), encoding="utf-8")

"""The evaluation folder: figures, clips, their audio, the report and the card of the model, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from avskrift.errors import EvaluationError
from avskrift.evaluation.clip_audio import write_audio
from avskrift.evaluation.clip_results import ClipResult, write_clip_results
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_markdown import card_lines
from avskrift.evaluation.result import CARD_FILE, REPORT_FILE, Evaluation
from avskrift.evaluation.result_file import write_result
from avskrift.evaluation.soundness import unsound_figures
from avskrift.storage.atomic import atomic_folder
from avskrift.whisper.card import model_card
from avskrift.whisper.package import PackageDescription


def write_evaluation(
    out: Path,
    evaluation: Evaluation,
    clips: Sequence[ClipResult],
    candidate: PackageDescription,
    audio: Mapping[str, bytes] = MappingProxyType({}),
) -> Evaluation:
    """Write the folder ``out``; an older one is replaced. What is written names the digest of the clips' results.

    ``candidate`` describes the package that was measured, for its card with the error rates; ``audio`` holds FLAC by
    clip_id, of the clips that the report shows.

    Raises:
        EvaluationError: a figure is not finite, out of its range or at odds with another; nothing is written.
        DiskFullError, StorageError: it cannot be written; nothing remains of the attempt.
    """
    unsound = ", ".join(unsound_figures(evaluation))
    if unsound:
        raise EvaluationError(f"the evaluation holds figures that cannot be right ({unsound}); evaluate the package again")
    with atomic_folder(out) as folder:
        try:
            written = replace(evaluation, clips_sha256=write_clip_results(folder, clips))
            write_result(folder, written)
        except ValueError as error:
            raise EvaluationError(f"{out}: a figure or text cannot be written as JSON ({error}); evaluate the package again") from error
        write_audio(folder, clips, audio)
        (folder / REPORT_FILE).write_text(render_report(written, clips, audio=audio), encoding="utf-8")
        (folder / CARD_FILE).write_text(model_card(candidate, card_lines(written)), encoding="utf-8")
    return written

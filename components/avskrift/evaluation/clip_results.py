"""Per-clip results: what was said, what each model heard, and how many words it got wrong. ``clips.jsonl``, for the data's owner."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import EvaluationError
from avskrift.evaluation.result import CLIPS_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """One clip as both models heard it. Texts are as written and as transcribed; the counts are of normalised words.

    A rate is None where the reference holds no words once normalised; the errors are then all insertions.
    """

    clip_id: str
    duration_s: float
    reference: str
    baseline: str
    candidate: str
    reference_words: int
    baseline_errors: int
    candidate_errors: int
    baseline_wer: float | None
    candidate_wer: float | None


def write_clip_results(folder: Path, results: Sequence[ClipResult]) -> None:
    """Write ``clips.jsonl``, one JSON object a line, into a folder that is not visible to readers yet.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    with (folder / CLIPS_FILE).open("w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(dataclasses.asdict(result), ensure_ascii=False, allow_nan=False) + "\n")


def read_clip_results(folder: Path) -> list[ClipResult]:
    """Read ``clips.jsonl`` of an evaluation folder.

    Raises:
        EvaluationError: it is missing or breaks the contract.
    """
    path = folder / CLIPS_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {CLIPS_FILE}; make one with `avskrift evaluate`")
    try:
        with path.open(encoding="utf-8") as file:
            return [ClipResult(**json.loads(line)) for line in file]
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{path}: not per-clip results ({error}); evaluate the package again") from error

"""Per-clip results: what was said, what each model heard, and how many words it got wrong. ``clips.jsonl``, for the data's owner."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import EvaluationError, IntegrityError
from avskrift.evaluation.result import CLIPS_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """One clip as the models heard it. Texts are as written and as transcribed; the counts are of normalised words.

    ``others`` are the texts of ``Evaluation.others``, in their order. A rate is None where the reference holds no words once
    normalised; the errors are then all insertions. What is unknown of speaker and recording is "".
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
    speaker_id: str = ""
    gender: str = ""
    age: str = ""
    source: str = ""
    others: tuple[str, ...] = ()


def write_clip_results(folder: Path, results: Sequence[ClipResult]) -> str:
    """Write ``clips.jsonl``, one JSON object a line, into a folder that is not visible to readers yet; return its sha256.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    lines = [json.dumps(dataclasses.asdict(result), ensure_ascii=False, allow_nan=False) + "\n" for result in results]
    content = "".join(lines).encode()
    (folder / CLIPS_FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_clip_results(folder: Path, sha256: str = "") -> list[ClipResult]:
    """Read ``clips.jsonl`` of an evaluation folder; ``sha256`` is what it should have, where that is known.

    Raises:
        EvaluationError: it is missing or breaks the contract.
        IntegrityError: it has another sha256.
    """
    path = folder / CLIPS_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {CLIPS_FILE}; make one with `avskrift evaluate`")
    content = path.read_bytes()
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(
            f"{path}: not the results that the evaluation was counted from (its sha256 differs); evaluate the package again"
        )
    try:
        rows = [json.loads(line) for line in content.splitlines()]
        return [ClipResult(**row | {"others": tuple(row["others"])}) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path}: not per-clip results ({error}); evaluate the package again") from error

"""What evaluate writes and the gate, the registry and people read: ``evaluation.json``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.errors import EvaluationError

RESULT_FILE = "evaluation.json"
CLIPS_FILE = "clips.jsonl"
REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its bootstrap interval [low, high]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """One model on the test split, corpus level: all errors over all reference units.

    ``hypotheses`` must equal the evaluation's ``clips``: a model that skipped clips was not measured.
    """

    uri: str
    package_sha256: str
    wer: Estimate
    cer: Estimate
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    hypotheses: int
    audio_seconds_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Candidate and baseline on the same clips, through the engine that serves.

    ``wer_difference`` is candidate minus baseline, from a bootstrap that resamples both with the same draws;
    ``resampled`` names its unit: ``speakers``, or ``clips`` where speakers are unknown or too few.
    """

    dataset_fingerprint: str
    split: str
    language: str
    normaliser: str
    clips: int
    hours: float
    speakers: int
    resampled: str
    resamples: int
    confidence: float
    candidate: ModelScore
    baseline: ModelScore
    wer_difference: Estimate
    engine: str
    version: int = 1


def read_evaluation(folder: Path) -> Evaluation:
    """Read ``evaluation.json``.

    Raises:
        EvaluationError: it is missing or breaks the contract. NaN and infinity are read as such: refusing them is the gate's word.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {RESULT_FILE}; make one with `avskrift evaluate`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(
            **{
                **raw,
                "candidate": _model_score(raw["candidate"]),
                "baseline": _model_score(raw["baseline"]),
                "wer_difference": Estimate(**raw["wer_difference"]),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path}: not an evaluation ({error}); evaluate the package again") from error


def evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as plain JSON values."""
    return dataclasses.asdict(evaluation)


def _model_score(raw: dict[str, Any]) -> ModelScore:
    return ModelScore(**{**raw, "wer": Estimate(**raw["wer"]), "cer": Estimate(**raw["cer"])})

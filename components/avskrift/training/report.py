"""What fine_tune tells the later steps: ``training.json`` and ``curves.jsonl``. No torch in here: their images may lack it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avskrift.errors import TrainingError
from avskrift.storage.atomic import atomic_folder, write_json

TRAINING_FILE = "training.json"
CURVES_FILE = "curves.jsonl"
_TEXTS = ("base_model", "base_model_sha256", "dataset_fingerprint", "language")
_MAPPINGS = ("parameters", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """``parameters`` is all that was configured, ``result`` what came of it, both plain JSON values."""

    base_model: str
    base_model_sha256: str
    dataset_fingerprint: str
    language: str
    parameters: dict[str, Any]
    result: dict[str, Any]


def write_report(folder: Path, report: TrainingReport, curve: Sequence[tuple[int, str, float]]) -> None:
    """Write both files; ``curve`` holds (step, name, value)."""
    with atomic_folder(folder) as temporary:
        write_json(temporary / TRAINING_FILE, asdict(report))
        points = ({"step": step, "name": name, "value": value} for step, name, value in curve)
        (temporary / CURVES_FILE).write_text("".join(f"{json.dumps(point)}\n" for point in points), encoding="utf-8")


def read_report(folder: Path) -> TrainingReport:
    """Read ``training.json``.

    Raises:
        TrainingError: it is missing or breaks the contract.
    """
    path = folder / TRAINING_FILE
    try:
        return _checked(TrainingReport(**json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path}: not a training report ({type(error).__name__}); give the folder that fine_tune wrote") from error


def _checked(report: TrainingReport) -> TrainingReport:
    for name in _TEXTS + _MAPPINGS:
        if not isinstance(getattr(report, name), str if name in _TEXTS else dict):
            raise TypeError(f"{name} has the wrong type")
    return report

"""``evaluation.json``: an evaluation as JSON, sealed with the sha256 of its own figures, so that a change by hand is seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from avskrift.errors import EvaluationError
from avskrift.evaluation.result import RESULT_FILE, Evaluation
from avskrift.evaluation.sealed import read_sealed, seal_of, with_seal
from avskrift.storage.atomic import write_json


def write_result(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json`` into ``folder``.

    Raises:
        ValueError: a figure is NaN or infinite.
        DiskFullError, StorageError: it cannot be written.
    """
    write_json(folder / RESULT_FILE, with_seal(evaluation_as_json(evaluation)))


def read_evaluation(folder: Path) -> Evaluation:
    """Read ``evaluation.json``.

    Raises:
        EvaluationError: it is missing or breaks the contract. Whether figures make sense is the gate's to say.
        IntegrityError: it is not what evaluate wrote.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {RESULT_FILE}; make one with `avskrift evaluate`")
    return read_sealed(path, Evaluation, name="an evaluation", author="evaluate", remedy="evaluate the package again")


def evaluation_seal(evaluation: Evaluation) -> str:
    """The sha256 under which ``evaluation.json`` holds these figures: what a decision names the evaluation by.

    Raises:
        TypeError, ValueError: a figure that no JSON can hold.
    """
    return seal_of(evaluation_as_json(evaluation))


def evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as plain JSON values."""
    return dataclasses.asdict(evaluation)

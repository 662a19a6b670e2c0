"""What prepare's output ``card`` says of a dataset: dataset.json, report and card, without the clips.

Read without ``avskrift.corpus``, whose libraries (Arrow, decoders) the image that talks to MLflow does without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avskrift.errors import DatasetError
from avskrift.evaluation.soundness import integer, is_sha256, number
from avskrift.registry.dataset import DatasetRecord, SplitFigures

DESCRIPTION_FILE = "dataset.json"
CARD_FILES = (DESCRIPTION_FILE, "report.html", "README.md")
# The columns of a dataset's parquet files, in MLflow's types; a test holds them against the dataset's own schema.
COLUMNS: Mapping[str, str] = {
    "clip_id": "string",
    "audio": "binary",  # and a name for it
    "duration_s": "double",
    "text": "string",
    "speaker_id": "string",
    "gender": "string",
    "age": "string",
    "accent": "string",
    "source": "string",
    "weight": "double",
}


def read_dataset_card(folder: Path) -> DatasetRecord:
    """Read the card; a whole dataset folder will do as well.

    Raises:
        DatasetError: no ``dataset.json``, or one that breaks its contract.
    """
    path = folder / DESCRIPTION_FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return DatasetRecord(
            fingerprint=_sha256(said["fingerprint"]),
            language=_text(said["language"]),
            licence=_text(said["licence"]),
            source=_text(said["source"]),
            sources=tuple(_text(source["uri"]) for source in said["sources"]),
            splits={split: _figures(held) for split, held in said["splits"].items()},
            rejected=_count(said["rejected"]),
            columns=COLUMNS,
            files=tuple(folder / name for name in CARD_FILES if (folder / name).is_file()),
        )
    except FileNotFoundError as error:
        raise DatasetError(f"{folder}: no {DESCRIPTION_FILE}; give the dataset's card, or the dataset that prepare wrote") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: not a dataset description ({type(error).__name__}: {error}); prepare the dataset again") from error


def _figures(said: Mapping[str, Any]) -> SplitFigures:
    hours = number(said["hours"])
    if not hours >= 0:
        raise ValueError("hours is no number of hours")
    return SplitFigures(clips=_count(said["clips"]), hours=hours, speakers=_count(said["speakers"]))


def _count(value: object) -> int:
    count = integer(value)
    if count is None or count < 0:
        raise ValueError("a count is no whole number")
    return count


def _sha256(value: object) -> str:
    if not is_sha256(value):
        raise ValueError("fingerprint is no sha256")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text is due")
    return value

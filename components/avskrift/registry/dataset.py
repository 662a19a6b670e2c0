"""What is recorded of the dataset that a run used: one input for each split, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avskrift.logs import redact
from avskrift.registry.protocol import DatasetInput

# What MLflow calls the use that a run makes of a split.
_CONTEXTS = {"train": "training", "validation": "validation", "test": "test"}
_HOURS_DIGITS = 4  # a third of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFigures:
    """How much one split holds; ``speakers`` is 0 where they are unknown."""

    clips: int
    hours: float
    speakers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """A dataset as its card describes it. The clips themselves are elsewhere and are not needed.

    ``files`` are the card's own files, to be kept with the run. ``source`` is all sources in one text, as the user gave them,
    and ``sources`` the URI of each. ``columns`` are those of a clip, each with its MLflow type.
    """

    fingerprint: str
    language: str
    licence: str
    source: str
    sources: tuple[str, ...]
    splits: Mapping[str, SplitFigures]
    rejected: int
    columns: Mapping[str, str]
    files: tuple[Path, ...]


def inputs_of(dataset: DatasetRecord) -> list[DatasetInput]:
    """One input for each split that holds clips: MLflow shows how each was used, and what is in it."""
    about_all = {
        "rejected_from_sources": dataset.rejected,
        "language": dataset.language,
        "licence": dataset.licence,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
    }
    return [
        DatasetInput(
            name=f"{split} of {_title(dataset.sources)}",  # the split first: MLflow shows the beginning of a long name
            digest=dataset.fingerprint,
            context=_CONTEXTS.get(split, split),
            sources=dataset.sources,
            columns=dataset.columns,
            profile={"clips": held.clips, "hours": round(held.hours, _HOURS_DIGITS), "speakers": held.speakers or "unknown", **about_all},
        )
        for split, held in dataset.splits.items()
        if held.clips
    ]


def figures_of(dataset: DatasetRecord) -> dict[str, float]:
    """The dataset's figures under the names that they have in MLflow."""
    figures: dict[str, float] = {"rejected_clips": dataset.rejected}
    for split, held in dataset.splits.items():
        figures |= {f"{split}_clips": held.clips, f"{split}_hours": held.hours, f"{split}_speakers": held.speakers}
    return figures


def _title(sources: tuple[str, ...]) -> str:
    """The last part of each source's URI, which stays the same where the recordings are moved."""
    return " + ".join(redact(uri).partition("?")[0].rstrip("/:").rpartition("/")[2] for uri in sources)

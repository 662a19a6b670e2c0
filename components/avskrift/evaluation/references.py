"""The clips of a split as they are measured, without their audio."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from avskrift.corpus.dataset import Clip, Dataset
from avskrift.errors import EvaluationError
from avskrift.logs import redact
from avskrift.text.normaliser import normalise


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A clip without its audio, of which ``audio_sha256`` remains. What is unknown is ""; ``source`` is one of the dataset's."""

    clip_id: str
    duration_s: float
    text: str
    speaker_id: str
    gender: str
    age: str
    source: str
    audio_sha256: str


def read_references(dataset: Dataset, split: str, language: str) -> list[Reference]:
    """The split in stored order; what cannot be measured is refused here, before hours of transcription and not after.

    Raises:
        EvaluationError: the split is empty, holds no words, not the clips that ``dataset.json`` counts, or a clip without
            a duration.
        DatasetError: a shard cannot be read.
    """
    sources = [source.uri for source in dataset.description.sources]
    references = [_reference(clip, sources) for clip in dataset.clips(split)]
    described = dataset.description.splits.get(split)
    counted = described.clips if described else 0
    if not references:
        raise EvaluationError(f"{dataset.folder}: the {split} split is empty; prepare the dataset with clips in it")
    if counted != len(references):
        raise EvaluationError(
            f"{dataset.folder}: {len(references)} {split} clips where dataset.json counts {counted}; prepare the dataset again"
        )
    for reference in references:
        if not (math.isfinite(reference.duration_s) and reference.duration_s > 0):
            raise EvaluationError(f"clip {reference.clip_id} of {split}: a duration of {reference.duration_s} s; prepare the dataset again")
    if not any(normalise(reference.text, language).strip() for reference in references):
        raise EvaluationError(f"{dataset.folder}: no {split} transcript holds a word once normalised; use a split with transcripts")
    return references


def content_digest(references: Sequence[Reference]) -> str:
    """One sha256 over the recordings, in order."""
    return hashlib.sha256("".join(reference.audio_sha256 for reference in references).encode()).hexdigest()


def _reference(clip: Clip, sources: Sequence[str]) -> Reference:
    return Reference(
        clip_id=clip.clip_id,
        duration_s=clip.duration_s,
        text=clip.text,
        speaker_id=clip.speaker_id,
        gender=clip.gender,
        age=clip.age,
        source=redact(_source_of(clip, sources)),
        audio_sha256=hashlib.sha256(clip.audio).hexdigest(),
    )


def _source_of(clip: Clip, sources: Sequence[str]) -> str:
    """The dataset's source that a clip is from: a clip says its place there, after the source where there are several."""
    if len(sources) == 1:
        return sources[0]
    return max((source for source in sources if clip.source.startswith(f"{source} ")), key=len, default="")

"""Dataset folders made by hand, with whatever clips and refusals a test wants."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avskrift.corpus.dataset import DESCRIPTION_FILE, SPLITS, Clip, Dataset, DatasetDescription, SourceSummary, SplitSummary, open_dataset
from avskrift.corpus.validation import Code, Rejection
from avskrift.corpus.writer import write_rejected, write_split


def clip(clip_id: str, *, seconds: float = 2.0, text: str | None = None, **more: Any) -> Clip:
    """A clip whose audio is not audio: who only counts must not read it."""
    return Clip(clip_id=clip_id, audio=b"not audio", duration_s=seconds, text=text or f"mening {clip_id}", source=f"{clip_id}.mp3", **more)


def rejection(code: Code, clip_id: str = "refused", **more: str) -> Rejection:
    return Rejection(**{"clip_id": clip_id, "code": code, "reason": f"because it is {code}", "source": f"{clip_id}.mp3"} | more)


def write_dataset(folder: Path, clips: Mapping[str, Sequence[Clip]], rejections: Sequence[Rejection] = (), **changes: Any) -> Dataset:
    """A dataset folder as prepare leaves it, but for what is for people; ``changes`` are to its description."""
    folder.mkdir(parents=True, exist_ok=True)
    summaries = {}
    for split in SPLITS:
        held = clips.get(split, ())
        write_split(folder, split, held)
        hours = sum(one.duration_s for one in held) / 3600
        summaries[split] = SplitSummary(clips=len(held), hours=hours, speakers=len({one.speaker_id for one in held} - {""}))
    write_rejected(folder, rejections)
    kept, hours = sum(one.clips for one in summaries.values()), sum(one.hours for one in summaries.values())
    description = DatasetDescription(
        fingerprint="f" * 64,
        language="sv",
        licence="CC0-1.0",
        source="folder:recordings",
        source_sha256="5" * 64,
        normaliser="sv-1",
        splits=summaries,
        rejected=len(rejections),
        sources=[
            SourceSummary(uri="folder:recordings", licence="CC0-1.0", weight=1.0, clips=kept, hours=hours, rejected=len(rejections)),
        ],
        speaker_salt_check="12ab34cd",
    )
    described = dataclasses.asdict(dataclasses.replace(description, **changes))
    (folder / DESCRIPTION_FILE).write_text(json.dumps(described), encoding="utf-8")
    return open_dataset(folder)

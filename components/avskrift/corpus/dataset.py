"""The dataset folder: what prepare writes and every later step reads.

``dataset.json`` describes it; ``{train,validation,test}-*.parquet`` hold the clips; ``rejected.parquet`` holds every
refused clip with its reason; ``report.html`` is for people.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode, probe
from avskrift.errors import AudioError, DatasetError

SPLITS = ("train", "validation", "test")
DESCRIPTION_FILE = "dataset.json"
REJECTED_FILE = "rejected.parquet"
REPORT_FILE = "report.html"

# `datasets` reads its features from this key; decode=False keeps it from asking for torchcodec.
_HUGGINGFACE_FEATURES = {
    "info": {
        "features": {
            "clip_id": {"dtype": "string", "_type": "Value"},
            "audio": {"sampling_rate": SAMPLE_RATE, "decode": False, "_type": "Audio"},
            "duration_s": {"dtype": "float64", "_type": "Value"},
            "text": {"dtype": "string", "_type": "Value"},
            "speaker_id": {"dtype": "string", "_type": "Value"},
            "gender": {"dtype": "string", "_type": "Value"},
            "age": {"dtype": "string", "_type": "Value"},
            "accent": {"dtype": "string", "_type": "Value"},
            "source": {"dtype": "string", "_type": "Value"},
        }
    }
}
CLIP_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("duration_s", pa.float64()),
        ("text", pa.string()),
        ("speaker_id", pa.string()),
        ("gender", pa.string()),
        ("age", pa.string()),
        ("accent", pa.string()),
        ("source", pa.string()),
    ],
    metadata={"huggingface": json.dumps(_HUGGINGFACE_FEATURES)},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One recording with its transcript.

    ``audio`` is a FLAC file's bytes, 16 kHz mono; ``speaker_id`` is a hash, or "" where the speaker is unknown.
    """

    clip_id: str
    audio: bytes
    duration_s: float
    text: str
    speaker_id: str = ""
    gender: str = ""
    age: str = ""
    accent: str = ""
    source: str = ""

    def samples(self) -> npt.NDArray[np.float32]:
        """Decode to float32 samples in [-1, 1], shape (n,), at 16 kHz.

        Raises:
            DatasetError: the bytes are not what the contract says.
        """
        try:
            header, samples = probe(self.audio), decode(self.audio)
        except AudioError as error:
            raise DatasetError(f"clip {self.clip_id}: its audio cannot be decoded ({error}); prepare the dataset again") from error
        if (header.rate, header.channels) != (SAMPLE_RATE, 1):
            raise DatasetError(
                f"clip {self.clip_id}: audio is {header.rate} Hz with {header.channels} channels; 16 kHz mono is due, prepare it again"
            )
        return samples

    def row(self) -> dict[str, Any]:
        """The clip as a row of :data:`CLIP_SCHEMA`."""
        row = dataclasses.asdict(self)
        row["audio"] = {"bytes": self.audio, "path": f"{self.clip_id}.flac"}
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """How much one split holds."""

    clips: int
    hours: float
    speakers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDescription:
    """``dataset.json``."""

    fingerprint: str  # sha256 over the clips' content; independent of their order and of the shards
    language: str
    licence: str
    source: str
    source_sha256: str
    normaliser: str
    splits: dict[str, SplitSummary]
    rejected: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset folder, opened by :func:`open_dataset`."""

    folder: Path
    description: DatasetDescription

    def shards(self, split: str) -> list[Path]:
        """The parquet files of one split, in order."""
        return sorted(self.folder.glob(f"{split}-*.parquet"))

    def clips(self, split: str) -> Iterator[Clip]:
        """Stream one split's clips in stored order.

        Raises:
            DatasetError: a shard cannot be read.
        """
        for shard in self.shards(split):
            try:
                for batch in pq.ParquetFile(shard).iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        yield Clip(**{**row, "audio": row["audio"]["bytes"]})
            except (pa.ArrowInvalid, OSError, TypeError, KeyError) as error:
                raise DatasetError(f"{shard}: cannot be read as a split of clips ({error}); prepare the dataset again") from error


def open_dataset(folder: Path) -> Dataset:
    """Open a dataset folder that prepare wrote.

    Raises:
        DatasetError: no ``dataset.json``, one that breaks the contract, or a split whose shards are missing.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise DatasetError(f"{folder}: no {DESCRIPTION_FILE}, so not a dataset folder; make one with `avskrift prepare --out {folder}`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        splits = {name: SplitSummary(**summary) for name, summary in raw.pop("splits").items()}
        description = DatasetDescription(splits=splits, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: not a dataset description ({error}); prepare the dataset again") from error
    dataset = Dataset(folder, description)
    for name, summary in splits.items():
        if summary.clips and not dataset.shards(name):
            raise DatasetError(f"{folder}: {summary.clips} {name} clips are described but no {name}-*.parquet is there; prepare it again")
    return dataset

"""The dataset folder: what prepare writes and every later step reads.

``dataset.json`` describes it; ``{train,validation,test}-*.parquet`` hold the clips; ``rejected.parquet`` holds every
refused clip with its reason; ``report.html`` is for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

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
VERSION = 2  # of dataset.json
MAX_WEIGHT = 100.0  # far beyond what helps; more is a mistake that would fill memory with plans

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
            "weight": {"dtype": "float64", "_type": "Value"},
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
        ("weight", pa.float64()),
    ],
    metadata={"huggingface": json.dumps(_HUGGINGFACE_FEATURES)},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One recording with its transcript.

    ``audio`` is a FLAC file's bytes, 16 kHz mono; ``speaker_id`` is a hash, or "" where the speaker is unknown. ``weight`` is
    how often an epoch of training meets the clip, on average: 2 is twice, 0.5 every other time.
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
    weight: float = 1.0

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


def clip_table(clips: Sequence[Clip]) -> pa.Table:
    """The clips as a table of :data:`CLIP_SCHEMA`. Column by column: ``from_pylist`` takes twenty times as long over recordings."""
    names = [f"{clip.clip_id}.flac" for clip in clips]
    columns = {field.name: [getattr(clip, field.name) for clip in clips] for field in CLIP_SCHEMA}
    kind = CLIP_SCHEMA.field("audio").type
    columns["audio"] = pa.StructArray.from_arrays(
        [pa.array(columns["audio"], pa.binary()), pa.array(names, pa.string())], fields=list(kind)
    )
    return pa.table(columns, schema=CLIP_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """How much one split holds."""

    clips: int
    hours: float
    speakers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSummary:
    """What one of the sources gave. ``clips`` are those in the splits; ``weight`` is that of its train clips."""

    uri: str
    licence: str
    weight: float
    clips: int
    hours: float
    rejected: int


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
    sources: list[SourceSummary]
    speaker_salt_check: str  # eight digits of a hash: tells datasets apart whose speaker ids cannot be compared
    version: int = VERSION


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
                raise _unreadable(shard, error) from error


def open_dataset(folder: Path) -> Dataset:
    """Open a dataset folder that prepare wrote.

    Raises:
        DatasetError: no ``dataset.json``, one that breaks the contract, a shard that cannot be read, or a split that is not complete.
    """
    path = folder / DESCRIPTION_FILE
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder, so no {DESCRIPTION_FILE}; name one that `avskrift prepare --out` wrote")
    if not path.is_file():
        raise DatasetError(f"{folder}: no {DESCRIPTION_FILE}, so not a dataset folder; name one that `avskrift prepare --out` wrote")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        _check_fields(raw)
        splits = {name: SplitSummary(**summary) for name, summary in raw.pop("splits").items()}
        sources = [SourceSummary(**summary) for summary in raw.pop("sources")]
        description = DatasetDescription(splits=splits, sources=sources, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: not a dataset description ({error}); prepare the dataset again") from error
    dataset = Dataset(folder, description)
    for name, summary in splits.items():
        if summary.clips and not dataset.shards(name):
            raise DatasetError(f"{folder}: {summary.clips} {name} clips are described but no {name}-*.parquet is there; prepare it again")
        stored = sum(map(_clips_in, dataset.shards(name)))
        if stored != summary.clips:
            raise DatasetError(
                f"{folder}: {summary.clips} {name} clips are described and {stored} are in {name}-*.parquet; "
                "a file is missing or is another dataset's: copy the folder whole, or prepare it again"
            )
    return dataset


def _clips_in(shard: Path) -> int:
    """From the file's end alone."""
    try:
        return int(pq.read_metadata(shard).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(shard, error) from error


def _unreadable(shard: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{shard}: cannot be read as a split of clips ({error}); prepare the dataset again")


def _check_fields(raw: dict[str, Any]) -> None:
    """Refuse what was written by another version, or by hand with holes in it."""
    if raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']!r}, where {VERSION} is due")
    texts = [name for name, kind in get_type_hints(DatasetDescription).items() if kind is str]
    wrong = [name for name in texts if not isinstance(raw[name], str)]
    if wrong:
        raise TypeError(f"{wrong[0]} is no text")

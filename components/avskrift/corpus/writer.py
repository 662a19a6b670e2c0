"""The parquet files of a dataset folder. The same clips in the same order give the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avskrift.corpus.dataset import CLIP_SCHEMA, REJECTED_FILE, Clip, clip_table
from avskrift.corpus.validation import Rejection

CLIPS_IN_SHARD = 512
_CLIPS_IN_ROW_GROUP = 64  # what is in memory at once: at most 64 MB
# FLAC does not compress further, and a dictionary of recordings would only be a copy of them.
_DICTIONARY_COLUMNS = ["speaker_id", "gender", "age", "accent"]
_REJECTED_SCHEMA = pa.schema([(field.name, pa.string()) for field in dataclasses.fields(Rejection)])


def write_split(folder: Path, split: str, clips: Iterable[Clip]) -> None:
    """Write ``{split}-00000.parquet`` and so on, of at most 512 clips each; nothing where there are no clips."""
    remaining = iter(clips)
    for number in count():
        groups = _batched(islice(remaining, CLIPS_IN_SHARD), _CLIPS_IN_ROW_GROUP)
        first = next(groups, None)
        if first is None:
            return
        _write_shard(folder / f"{split}-{number:05d}.parquet", chain([first], groups))


def write_rejected(folder: Path, rejections: Sequence[Rejection]) -> None:
    """Write ``rejected.parquet``, with no rows where nothing was refused."""
    rows = [dataclasses.asdict(rejection) for rejection in rejections]
    pq.write_table(pa.Table.from_pylist(rows, schema=_REJECTED_SCHEMA), folder / REJECTED_FILE)


def _write_shard(path: Path, groups: Iterable[Sequence[Clip]]) -> None:
    with pq.ParquetWriter(path, CLIP_SCHEMA, compression="NONE", use_dictionary=_DICTIONARY_COLUMNS, write_statistics=False) as writer:
        for group in groups:
            writer.write_table(clip_table(group))


def _batched(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    iterator = iter(clips)
    while batch := list(islice(iterator, size)):
        yield batch

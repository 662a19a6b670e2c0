"""Parquet files of clips: a file, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avskrift.corpus.dataset import DESCRIPTION_FILE, SPLITS
from avskrift.corpus.entries import LICENCE_UNKNOWN, Entry, read_nothing, recording_at, tidy
from avskrift.corpus.sources.clip_tables import ClipColumns, Recording, clip_columns, recording_in
from avskrift.corpus.sources.columns import RECORDING, TRANSCRIPT, either
from avskrift.corpus.sources.files import Spellings, fault_within
from avskrift.corpus.splits import own_split
from avskrift.errors import ModelUnavailableError, SourceError

_SUFFIX = ".parquet"
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSource:
    """``parquet:PATH``, where PATH is a file, a folder (with those in it), a pattern like ``data/*/train-*.parquet``, or s3://.

    A file of clips has a column of recordings (bytes, Hugging Face's struct of bytes and path, or file names relative to the
    parquet file) and one of transcripts; in a folder, others are passed over. A folder that prepare wrote gives the clips of
    its splits. Where no column says the split, the file's name does, or its folder's: ``train-00000-of-00002.parquet``,
    ``validation/0000.parquet``. A clip's location is ``FILE#ROW``, its row counted from 0.

    Memory holds a few megabytes of rows, and the pages of the file that these are in.
    """

    uri: str

    @property
    def remote(self) -> bool:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self.uri.partition(":")[2].strip().startswith("s3://")

    @property
    def licence(self) -> str:
        """What prepare wrote down, of a folder that it wrote."""
        place = _place(self.uri)
        return str(_description(place).get("licence") or LICENCE_UNKNOWN) if place.is_dir() else LICENCE_UNKNOWN

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`. Recordings are not read from the files, so what is wrong with them is not known."""
        return self._rows(with_audio=False)

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self._rows(with_audio=True)

    def _rows(self, *, with_audio: bool) -> Iterator[Entry]:
        any_clips, other = False, f"there is no {_SUFFIX} file"
        for shard in _shards(self.uri):
            with _readable(shard.path), pq.ParquetFile(shard.path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
                columns = clip_columns(file.schema_arrow)
                if columns is None:
                    other = f"{shard.path} has {', '.join(file.schema_arrow.names) or 'none'}"
                    continue
                any_clips = True
                yield from shard.entries(file, columns, with_audio=with_audio or not columns.holds_audio)
        if not any_clips:
            raise SourceError(
                f"source {self.uri!r}: no file of clips ({other}); they have a column {either(RECORDING)} for the recordings "
                f"and {either(TRANSCRIPT)} for the transcripts"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """One parquet file; ``name`` is its path in the place that the user gave."""

    path: Path
    name: str

    def entries(self, file: pq.ParquetFile, columns: ClipColumns, *, with_audio: bool) -> Iterator[Entry]:
        split = "" if "split" in columns.descriptive else _split_of(self.name)
        root, spellings = os.path.realpath(self.path.parent), Spellings()
        for number, row in enumerate(_rows(file, [*columns.metadata, columns.audio] if with_audio else columns.metadata)):
            location = f"{tidy(self.name)}#{number}"
            recording = _recording(row[columns.audio], location, root, spellings) if with_audio else read_nothing
            yield columns.entry(row, location=location, recording=recording, split=split)


def _recording(value: object, location: str, root: str, spellings: Spellings) -> Recording:
    def named(name: str) -> Recording:
        spelled = spellings.within(root, name)
        return fault_within(root, spelled, named=f"{tidy(name)!r}, which {location!r} names,") or recording_at(Path(root, spelled))

    return recording_in(value, location=location, named=named)


def _rows(file: pq.ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, one converted at a time."""
    for number in range(file.num_row_groups):
        for batch in file.iter_batches(_batch_rows(file, number, columns), row_groups=[number], columns=columns, use_threads=False):
            cells = {name: batch.column(name) for name in columns}
            for row in range(batch.num_rows):
                yield {name: column[row].as_py() for name, column in cells.items()}


def _batch_rows(file: pq.ParquetFile, group: int, columns: list[str]) -> int:
    """As many rows as a batch may have, whose clips may last half a minute."""
    said = file.metadata.row_group(group)
    chunks = [said.column(number) for number in range(said.num_columns)]
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns)
    return min(_BATCH_ROWS, max(1, _BATCH_BYTES * int(said.num_rows) // max(1, size)))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{path}: cannot be read as parquet ({reason}); copy or export it again") from error


def _shards(uri: str) -> Iterator[_Shard]:
    """The files, in an order that is always the same; links to folders are not followed, hidden files are passed over."""
    place = _place(uri)
    if place.is_dir():
        names = _description(place).get("splits")
        splits = [split for split in SPLITS if split in names] if isinstance(names, dict) else []
        # Beside the splits that prepare wrote lies what it refused.
        patterns = [f"{split}-*{_SUFFIX}" for split in splits] or [f"**/*{_SUFFIX}"]
    elif place.is_file():
        place, patterns = place.parent, [glob.escape(place.name)]
    elif glob.has_magic(str(place)):
        place, patterns = _parted(place)
    else:
        raise SourceError(f"source {uri!r}: there is no file or folder {place}; check the path")
    try:
        found = [path for pattern in patterns for path in sorted(place.glob(pattern)) if path.is_file()]
    except (ValueError, RecursionError) as error:  # the latter from folders a thousand deep
        raise SourceError(f"source {uri!r}: is not a pattern of file names ({error}); give one like data/*{_SUFFIX}") from error
    for path in found:
        relative = path.relative_to(place)
        if not any(part.startswith(".") for part in relative.parts):
            yield _Shard(path=path, name=relative.as_posix())


def _place(uri: str) -> Path:
    place = uri.partition(":")[2].strip()
    if not place:
        raise SourceError(f"source {uri!r}: names no file; give parquet:FILE, parquet:FOLDER or parquet:'FOLDER/*{_SUFFIX}'")
    return _fetched(uri, place) if place.startswith("s3://") else Path(place.removeprefix("file://")).expanduser()


def _fetched(uri: str, place: str) -> Path:
    try:
        from avskrift.storage.door import fetch

        return fetch(place)
    except ModelUnavailableError as error:
        raise SourceError(f"source {uri!r}: nothing is stored under that prefix; give the folder that holds the files") from error
    except ImportError as error:
        raise SourceError(f"source {uri!r}: {error.name} is missing; install it, or copy the files here") from error


def _parted(pattern: Path) -> tuple[Path, list[str]]:
    """The folder that a pattern begins with, and the rest."""
    fixed = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:fixed]), ["/".join(pattern.parts[fixed:])]


def _description(folder: Path) -> dict[str, Any]:
    """``dataset.json``, as far as it is one that prepare wrote; else nothing."""
    try:
        said = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _split_of(name: str) -> str:
    """The split that a file's name says, or the nearest folder's; "" if none does."""
    for part in reversed(name.removesuffix(_SUFFIX).split("/")):
        for word in re.split(r"[^a-z]+", part.lower()):
            if own_split(word) in SPLITS:
                return own_split(word)
    return ""

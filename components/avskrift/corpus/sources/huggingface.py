"""Data sets of the Hugging Face hub, streamed: nothing of them but their cards is kept on disk."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from avskrift.corpus.dataset import SPLITS
from avskrift.corpus.entries import LICENCE_UNKNOWN, Entry, Fault, read_nothing, tidy
from avskrift.corpus.sources.clip_tables import ClipColumns, Recording, clip_columns, recording_in
from avskrift.corpus.sources.columns import RECORDING, TRANSCRIPT, either
from avskrift.corpus.splits import own_split
from avskrift.errors import AvskriftError, SourceError, StorageError, disk_full
from avskrift.storage.paths import cache

_SHAPE = "hf://ORG/NAME?config=CONFIG&split=train+test&revision=COMMIT&text=COLUMN&audio=COLUMN, of which only ORG/NAME is needed"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_OPTIONS = ("config", "split", "revision", "text", "audio")
_ALTERNATIVE = "without internet use parquet: or folder: on files that you copied here"
_BATCH_ROWS = 64
_LONGEST_REASON = 600
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceSource:
    """``hf://ORG/NAME?config=...&split=...&revision=...&text=...&audio=...``.

    Without ``split``, all splits that are for training, validation or the test by their names, or all there are if none is;
    a name that says none of these is no split to us, so those clips' splits are drawn. ``text`` and ``audio`` name the
    columns where the usual names mislead. The commit is found once in a process, so that what is listed is what is read; a
    clip's location is ``CONFIG/SPLIT/ROW``, its row counted from 0. Private and gated data sets need ``HF_TOKEN``.

    The data set is made of parquet files, as most of the hub's are; memory holds about one row group of one.

    Raises:
        SourceError: the URI is of another form.
    """

    uri: str
    remote: bool = field(default=True, init=False)

    _request: _Request = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_request", _parsed(self.uri))

    @property
    def licence(self) -> str:
        """The licence on the card, and the commit.

        Raises:
            SourceError: there is no such data set, or it may not be read.
            StorageError: the hub cannot be reached.
        """
        with _asking(self.uri):
            commit = _commit(self._request.repository, self._request.revision)
        return f"{commit.licence} (commit {commit.sha})"

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`. Recordings are not fetched, so what is wrong with them is not known."""
        return self._rows(with_audio=False)

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self._rows(with_audio=True)

    def _rows(self, *, with_audio: bool) -> Iterator[Entry]:
        with _asking(self.uri):
            sha = _commit(self._request.repository, self._request.revision).sha
            builder = _builder(self._request, sha)
            if not hasattr(builder.config, "fragment_scan_options"):  # which parquet alone has
                raise SourceError(f"source {self.uri!r}: is not made of parquet files; copy it here, and give folder: or manifest:")
            streams = builder.as_streaming_dataset()
            for name in self._chosen(streams):
                split = own_split(name) if own_split(name) in SPLITS else ""
                columns = self._columns(name, streams[name].features)
                for number, row in enumerate(_rows_of(name, columns, self._request, sha, with_audio=with_audio)):
                    location = f"{tidy(builder.config.name)}/{tidy(name)}/{number}"
                    recording = _recording(row[columns.audio], location) if with_audio else read_nothing
                    yield columns.entry(row, location=location, recording=recording, split=split)

    def _chosen(self, present: Mapping[str, object]) -> list[str]:
        unknown = [split for split in self._request.splits if split not in present]
        if unknown:
            raise SourceError(f"source {self.uri!r}: has no split {unknown[0]!r}; it has {', '.join(present)}")
        return list(self._request.splits) or [name for name in present if own_split(name) in SPLITS] or list(present)

    def _columns(self, split: str, features: Any) -> ClipColumns:
        columns = clip_columns(features.arrow_schema, audio=self._request.audio, text=self._request.text)
        if columns is None or not columns.holds_audio:
            raise SourceError(
                f"source {self.uri!r}: its split {split} has the columns {', '.join(features)}; recordings are looked for under "
                f"{either(RECORDING)} and transcripts under {either(TRANSCRIPT)}; name others by ?audio= and &text="
            )
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What a URI asks for; "" and () where it leaves it open."""

    repository: str
    config: str
    splits: tuple[str, ...]
    revision: str
    text: str
    audio: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    sha: str
    licence: str


def _rows_of(split: str, columns: ClipColumns, request: _Request, sha: str, *, with_audio: bool) -> Iterator[dict[str, Any]]:
    """The rows of a split, with the columns of clips alone."""
    from datasets import Audio
    from pyarrow.dataset import ParquetFragmentScanOptions

    stream = _builder(
        request,
        sha,
        columns=[*columns.metadata, columns.audio] if with_audio else columns.metadata,
        batch_size=_BATCH_ROWS,
        # Its own default fetches whole files ahead: memory would grow with their size.
        fragment_scan_options=ParquetFragmentScanOptions(pre_buffer=False),
    ).as_streaming_dataset(split=split)
    if with_audio and isinstance(stream.features[columns.audio], Audio):
        stream = stream.cast_column(columns.audio, Audio(decode=False))  # our own decoder knows the limits
    return iter(stream)


def _recording(cell: object, location: str) -> Recording:
    def named(_: str) -> Recording:
        return Fault(code="missing", reason=f"{location!r} has only the name of a recording, and not the recording")

    return recording_in(cell, location=location, named=named)


def _builder(request: _Request, sha: str, **options: Any) -> Any:
    from datasets import load_dataset_builder

    _without_progress_bars()
    folder = str(cache() / "datasets")
    return load_dataset_builder(request.repository, request.config or None, revision=sha, cache_dir=folder, **options)


@functools.lru_cache(maxsize=64)
def _commit(repository: str, revision: str) -> _Commit:
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(repository, revision=revision or None, timeout=_TIMEOUT_SECONDS)
    licence = getattr(info.card_data, "license", None) or LICENCE_UNKNOWN
    return _Commit(sha=str(info.sha), licence=tidy(", ".join(licence) if isinstance(licence, list) else str(licence)))


def _parsed(uri: str) -> _Request:
    place, _, query = uri.strip().removeprefix("hf://").partition("?")
    repository = place.removeprefix("datasets/").strip("/")
    if not _REPOSITORY.fullmatch(repository):
        raise SourceError(f"source {uri!r}: names no data set of the hub; give {_SHAPE}")
    options = dict.fromkeys(_OPTIONS, "")
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in options or not value:
            raise SourceError(f"source {uri!r}: {item!r} is not understood; give {_SHAPE}")
        options[name] = unquote(value)
    splits = tuple(split.strip() for split in options.pop("split").split("+") if split.strip())
    return _Request(repository=repository, splits=splits, **options)


def _without_progress_bars() -> None:
    """Ours is shown already, and a log is no place for theirs."""
    import datasets
    from huggingface_hub.utils.tqdm import disable_progress_bars

    datasets.disable_progress_bars()
    disable_progress_bars()


@contextmanager
def _asking(uri: str) -> Iterator[None]:
    try:
        yield
    except AvskriftError:
        raise
    except ImportError as error:
        raise SourceError(f"source {uri!r}: the package {error.name} is missing; install it, or use parquet: or folder:") from error
    except Exception as error:  # the hub's client lets through what its HTTP library raises, whose name changes between releases
        raise disk_full(error, where=cache()) or _explained(uri, error) from error


def _explained(uri: str, error: Exception) -> AvskriftError:
    """Messages of HTTP libraries are left out, since they hold URLs, and these may be signed."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, OfflineModeIsEnabled):
        return StorageError(f"source {uri!r}: HF_HUB_OFFLINE keeps the hub from being asked; unset it, or {_ALTERNATIVE}")
    if isinstance(error, GatedRepoError) or (isinstance(error, DatasetsError) and "is a gated dataset" in str(error)):
        advice = "accept its terms on the hub, and set HF_TOKEN to a token that may read it"
        return SourceError(f"source {uri!r}: is gated; {advice}; {_ALTERNATIVE}")
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"source {uri!r}: has no such revision; give a commit, branch or tag of it, or leave it out")
    if isinstance(error, RepositoryNotFoundError):
        advice = "check the name, or set HF_TOKEN"
        return SourceError(f"source {uri!r}: the hub has no such data set, or it is private; {advice}; {_ALTERNATIVE}")
    if isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error):
        advice = "hf download ORG/NAME --repo-type dataset --revision refs/convert/parquet --local-dir FOLDER"
        return SourceError(f"source {uri!r}: is made by a script, which is not run; copy what the hub made of it (`{advice}`) for parquet:")
    if isinstance(error, ValueError | pa.ArrowException | DatasetsError | EmptyDatasetError):
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        return SourceError(f"source {uri!r}: cannot be read as a data set ({reason}); check config and split, or {_ALTERNATIVE}")
    return StorageError(f"source {uri!r}: the hub did not give it ({_kind(error)}); try again, or {_ALTERNATIVE}")


def _kind(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{type(error).__name__}, status {status}" if status else type(error).__name__

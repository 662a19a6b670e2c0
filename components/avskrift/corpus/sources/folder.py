"""A folder of recordings: each with a ``.txt`` of the same name, or all in one ``metadata.csv``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from avskrift.corpus.entries import LICENCE_UNKNOWN, Entry, Fault, recording_at, tidy
from avskrift.corpus.sources.files import Spellings, composed, fault_within, file_fault, leads_out, real_name
from avskrift.corpus.sources.tables import TABLE_SUFFIXES, Row, cut_recordings, not_utf8, read_rows
from avskrift.errors import SourceError

METADATA_FILE = "metadata.csv"
_OTHER_METADATA = re.compile(r"metadata\.(csv|tsv|jsonl|json|xlsx|xls|ods|numbers)", re.IGNORECASE)
# What is read, and what people take for audio too: the latter is refused, not passed over.
RECORDING_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4"})
_OTHER_AUDIO_SUFFIXES = frozenset({".aac", ".wma", ".webm", ".amr", ".aif", ".aiff", ".3gp"})
_TRANSCRIPT_SUFFIX = ".txt"
_LONGEST_TRANSCRIPT = 1 << 20  # bytes: a day of speech

_File: TypeAlias = "os.DirEntry[str]"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """See the module. In the order of their names; hidden files are passed over, sub-folders are not.

    What leads out of the folder, by a link or by its name in ``metadata.csv``, is a fault: it could be any file of the
    machine. A link to one of the sub-folders is not followed, since what is in it is met where it lies.
    """

    uri: str
    folder: Path
    licence: str = LICENCE_UNKNOWN
    remote: bool = field(default=False, init=False)

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self.entries()

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        if not self.folder.is_dir():
            raise SourceError(f"source {self.uri!r}: there is no folder {self.folder}; check the path")
        root = os.path.realpath(self.folder)
        if Path(root, METADATA_FILE).is_file():
            yield from _described(root)
            return
        self._check_metadata(root)
        yield from _paired(root)

    def _check_metadata(self, root: str) -> None:
        """Refuse metadata under another name, unless the first recording has a transcript beside it."""
        files, _ = _listed(root)
        other = next((file.name for file in files if _OTHER_METADATA.fullmatch(file.name)), None)
        if other is None or _begins_with_a_pair(root):
            return
        suffix = Path(other).suffix.lower()
        if suffix == ".csv":
            advice = f"rename it to {METADATA_FILE}"
        elif suffix in TABLE_SUFFIXES:
            advice = f"give it as the source, --source {self.folder / other}, or export it as {METADATA_FILE}"
        else:
            advice = f"export it as {METADATA_FILE}, in UTF-8, into the same folder"
        raise SourceError(f"source {self.uri!r}: there is {tidy(other)!r}, and only {METADATA_FILE} is read; {advice}")


def _paired(root: str) -> Iterator[Entry]:
    """Recordings and transcripts of the same name, whatever the case of their suffixes and the code points of their letters."""
    for file, neighbours in _walk(root):
        stem, suffix = _split(file)
        location = _location(root, file)
        if _is_lure(root, file):
            yield _faulty(location, Fault(code="outside", reason=f"{location!r} is a link out of the folder"))
        elif _is_recording(suffix):
            yield _with_transcript(root, file, neighbours.transcripts.get(stem))
        elif suffix == _TRANSCRIPT_SUFFIX and stem not in neighbours.recorded:
            yield _faulty(location, Fault(code="missing", reason=f"{location!r} has no recording of the same name"))


def _begins_with_a_pair(root: str) -> bool:
    """Whether the first recording has a transcript."""
    pairs = (_split(file)[0] in neighbours.transcripts for file, neighbours in _walk(root) if _is_recording(_split(file)[1]))
    return next(pairs, False)


def _described(root: str) -> Iterator[Entry]:
    """The rows of ``metadata.csv``, then the recordings that no row names."""
    metadata = Path(root, METADATA_FILE)
    if leads_out(root, metadata):
        raise SourceError(f"{metadata}: is a link out of the folder; put the file itself there, or give it as a manifest")
    named: set[str] = set()
    cut, spellings = cut_recordings(metadata, root), Spellings()
    for row in read_rows(metadata):
        name = spellings.within(root, row.recording)
        path = Path(root, name)
        named |= {str(path), real_name(path) or ""}
        fault = fault_within(root, name, named=_stated(row), part=row.part is not None)
        yield row.entry(location=tidy(str(PurePosixPath(row.recording))), path=path, fault=fault, cut=cut)
    for file, _ in _walk(root):
        location = _location(root, file)
        if _is_lure(root, file):
            if file.path not in named:
                yield _faulty(location, Fault(code="outside", reason=f"{location!r} is a link out of the folder"))
        elif _is_recording(_split(file)[1]) and (real_name(file.path) if file.is_symlink() else file.path) not in named:
            yield _faulty(location, Fault(code="missing", reason=f"{location!r} is not in {METADATA_FILE}"))


def _stated(row: Row) -> str:
    return f"{row.recording!r}, line {row.line} of {METADATA_FILE},"


def _with_transcript(root: str, file: _File, transcript: _File | None) -> Entry:
    location = _location(root, file)
    fault = file_fault(Path(file.path), named=repr(location)) or _transcript_fault(root, file, transcript)
    if fault or transcript is None:
        return Entry(location=location, text="", fault=fault)
    return Entry(location=location, text=_read_transcript(Path(transcript.path)), read=recording_at(Path(file.path)))


def _transcript_fault(root: str, file: _File, transcript: _File | None) -> Fault | None:
    """Why the transcript of the recording ``file`` cannot be read; a pipe is never opened."""
    location = _location(root, file)
    if transcript is None:
        return Fault(code="missing", reason=f"{location!r} has no transcript {tidy(_split(file)[0] + _TRANSCRIPT_SUFFIX)!r}")
    name = tidy(transcript.name)
    if leads_out(root, transcript):
        return Fault(code="outside", reason=f"the transcript of {location!r}, {name!r}, is a link out of the folder")
    if not transcript.is_file():
        return Fault(code="missing", reason=f"the transcript of {location!r}, {name!r}, is not a file")
    if transcript.stat().st_size > _LONGEST_TRANSCRIPT:
        return Fault(code="missing", reason=f"{name!r} is over {_LONGEST_TRANSCRIPT >> 20} MiB, so not the transcript of {location!r}")
    return None


def _read_transcript(path: Path) -> str:
    try:
        return tidy(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: {not_utf8(error)}") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Neighbours:
    """What lies in one folder: transcripts by the stems of their recordings, and the stems of transcripts that have a recording."""

    transcripts: dict[str, _File]
    recorded: frozenset[str]


def _walk(root: str) -> Iterator[tuple[_File, _Neighbours]]:
    """The files, and links to folders, below ``root``, sorted by the parts of their paths; links are not followed.

    Holds the names of one folder and of those above it.
    """
    pending = [_listed(root)]
    while pending:
        files, neighbours = pending[-1]
        file = next(files, None)
        if file is None:
            pending.pop()
        elif file.is_dir(follow_symlinks=False):
            pending.append(_listed(file.path))
        else:
            yield file, neighbours


def _listed(folder: str) -> tuple[Iterator[_File], _Neighbours]:
    try:
        with os.scandir(folder) as found:
            files = sorted((file for file in found if not file.name.startswith(".")), key=lambda file: file.name)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return iter(files), _neighbours(files)


def _neighbours(files: Sequence[_File]) -> _Neighbours:
    split = [(*_split(file), file) for file in files]
    transcripts = {stem: file for stem, suffix, file in split if suffix == _TRANSCRIPT_SUFFIX}
    spelled = {composed(stem): stem for stem in transcripts}
    stems = {stem for stem, suffix, _ in split if _is_recording(suffix)}
    said = {stem: stem if stem in transcripts else spelled.get(composed(stem), "") for stem in stems}
    return _Neighbours(
        transcripts={stem: transcripts[name] for stem, name in said.items() if name in transcripts},
        recorded=frozenset(said.values()),
    )


def _is_lure(root: str, file: _File) -> bool:
    """Whether it is a link that a recording, or a folder of them, would be read through, and that leads out of the folder."""
    return file.is_symlink() and (_is_recording(_split(file)[1]) or file.is_dir()) and leads_out(root, file)


def _is_recording(suffix: str) -> bool:
    return suffix in RECORDING_SUFFIXES or suffix in _OTHER_AUDIO_SUFFIXES


def _split(file: _File) -> tuple[str, str]:
    """A file's stem, and its suffix in lower case."""
    stem, suffix = os.path.splitext(file.name)  # noqa: PTH122  # a Path for each of a million names takes seconds
    return stem, suffix.lower()


def _location(root: str, file: _File) -> str:
    return tidy(os.path.relpath(file.path, root))


def _faulty(location: str, fault: Fault) -> Entry:
    return Entry(location=location, text="", fault=fault)

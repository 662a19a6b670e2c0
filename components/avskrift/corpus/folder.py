"""A folder of recordings: each with a ``.txt`` of the same name, or all in one ``metadata.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from avskrift.corpus.entries import Entry, read_nothing, read_recording, tidy
from avskrift.corpus.tables import UTF8_ADVICE, Row, read_rows
from avskrift.errors import SourceError

METADATA_FILE = "metadata.csv"
LICENCE_UNKNOWN = "not stated by the source"
# What is read, and what people take for audio too: the latter is refused, not passed over.
RECORDING_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"})
_OTHER_AUDIO_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr", ".aif", ".aiff", ".3gp"})
_TRANSCRIPT_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """See the module. Hidden files are passed over; sub-folders are not."""

    uri: str
    folder: Path
    max_seconds: float
    licence: str = LICENCE_UNKNOWN

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        if not self.folder.is_dir():
            raise SourceError(f"source {self.uri!r}: there is no folder {self.folder}; check the path")
        if (self.folder / METADATA_FILE).is_file():
            yield from self._described()
        else:
            yield from self._paired()

    def _paired(self) -> Iterator[Entry]:
        """Recordings and transcripts of the same name, whatever the case of their suffixes."""
        files = list(self._files())
        recordings = [path for path in files if _is_recording(path)]
        transcripts = {path.with_suffix(""): path for path in files if path.suffix.lower() == _TRANSCRIPT_SUFFIX}
        for stem in sorted(transcripts.keys() - {path.with_suffix("") for path in recordings}):
            location = self._location(transcripts[stem])
            yield Entry(location=location, text="", read=read_nothing, missing=f"{location!r} has no recording of the same name")
        for path in recordings:
            location = self._location(path)
            transcript = transcripts.get(path.with_suffix(""))
            if transcript is None:
                missing = f"{location!r} has no transcript {path.with_suffix(_TRANSCRIPT_SUFFIX).name!r}"
                yield Entry(location=location, text="", read=read_nothing, missing=missing)
            else:
                yield Entry(location=location, text=_transcript(transcript), read=partial(read_recording, path, self.max_seconds))

    def _described(self) -> Iterator[Entry]:
        """The rows of ``metadata.csv``, then the recordings that no row names."""
        metadata = self.folder / METADATA_FILE
        named = set()
        for row in read_rows(metadata):
            path = self._named(metadata, row)
            named.add(path)
            location = self._location(path)
            if not path.is_file():
                missing = f"{location!r}, line {row.line} of {METADATA_FILE}, is not there"
                yield row.entry(location=location, read=read_nothing, missing=missing)
            elif row.text is None:
                yield row.entry(location=location, read=read_nothing, missing=f"{location!r}, line {row.line}, has no transcript")
            else:
                yield row.entry(location=location, read=partial(read_recording, path, self.max_seconds))
        for path in self._files():
            if _is_recording(path) and path not in named:
                location = self._location(path)
                yield Entry(location=location, text="", read=read_nothing, missing=f"{location!r} is not in {METADATA_FILE}")

    def _named(self, metadata: Path, row: Row) -> Path:
        """The path that a row names; one that leaves the folder could read any file of the machine."""
        relative = PurePosixPath(row.recording)
        path = self.folder / relative
        if relative.is_absolute() or ".." in relative.parts or not _within(path, self.folder):
            raise SourceError(f"{metadata}, line {row.line}: {row.recording!r} leaves the folder; move the recording into it")
        return path

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.folder.rglob("*")):
            if any(part.startswith(".") for part in path.relative_to(self.folder).parts):
                continue
            if path.is_symlink() and (path.is_dir() or not _within(path, self.folder)):
                raise SourceError(
                    f"{path}: is a link to a folder or out of this one; put the files themselves here, or list them in a manifest"
                )
            if path.is_file():
                yield path

    def _location(self, path: Path) -> str:
        return tidy(path.relative_to(self.folder).as_posix())


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in RECORDING_SUFFIXES | _OTHER_AUDIO_SUFFIXES


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _transcript(path: Path) -> str:
    try:
        return tidy(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 (byte {error.start + 1} is 0x{error.object[error.start]:02x}); {UTF8_ADVICE}") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error

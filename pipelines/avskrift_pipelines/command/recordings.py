"""Which recordings a person means by files and folders, and where their transcripts go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import UsageError
from avskrift.serving.formats import Format

# As OpenAI's formats, so that a second run in another format does not take these transcripts for its own.
_ENDINGS: dict[Format, str] = {"json": ".json", "text": ".txt", "srt": ".srt", "vtt": ".vtt", "verbose_json": ".verbose.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A file, and its place below the folder that was given: its name, where the file itself was."""

    path: Path
    place: Path

    def transcript(self, out: Path, fmt: Format) -> Path:
        """``meeting.mp3`` becomes ``meeting.mp3.srt``, since ``meeting.wav`` may lie beside it."""
        return out / self.place.with_name(self.place.name + _ENDINGS[fmt])


def find(given: Sequence[Path]) -> list[Recording]:
    """The files, and what has a recording's extension in the folders and those below; each once, in order.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        UsageError: something is not there, or a folder holds no recordings.
    """
    found: dict[str, Recording] = {}
    for path in given:
        for recording in _in_folder(path) if path.is_dir() else [_file(path)]:
            found.setdefault(os.path.abspath(recording.path), recording)  # noqa: PTH100  # resolve() would make links one file
    return list(found.values())


def refuse_one_place_for_two(recordings: Sequence[Recording]) -> None:
    """Raises UsageError where two recordings would have the same transcript."""
    places: dict[Path, Recording] = {}
    for recording in recordings:
        other = places.setdefault(recording.place, recording)
        if other is not recording:
            raise UsageError(
                f"{other.path} and {recording.path} would both be written as {recording.place}; transcribe them into two folders"
            )


def _file(path: Path) -> Recording:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the path of a recording or of a folder")
    return Recording(path=path, place=Path(path.name))


def _in_folder(folder: Path) -> Iterator[Recording]:
    from avskrift.corpus.sources.folder import RECORDING_SUFFIXES  # loads the decoders, which --help need not wait for

    none = True
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in RECORDING_SUFFIXES and path.is_file():
                none = False
                yield Recording(path=path, place=path.relative_to(folder))
    if none:
        raise UsageError(f"{folder}: holds no recordings ({', '.join(sorted(RECORDING_SUFFIXES))}); name another folder")


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions, or name another folder")

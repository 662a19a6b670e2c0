"""What can be said of a recording's file before it is opened."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path, PurePosixPath

from avskrift.corpus.entries import Fault, oversized


def file_fault(path: Path, *, named: str, part: bool = False) -> Fault | None:
    """Why no clip can be read from ``path``; ``named`` is how the reason calls it.

    The file is looked at, never opened: a pipe or a device could keep its reader for ever. Of a file from which a ``part``
    is read by seeking, the size is no matter.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return Fault(code="missing", reason=f"{named} is not there")
    if not stat.S_ISREG(status.st_mode):
        return Fault(code="undecodable", reason=f"{named} is not a regular file")
    return None if part else oversized(status.st_size)


def fault_within(root: str, name: str, *, named: str, part: bool = False) -> Fault | None:
    """:func:`file_fault` for what a list that lies in the folder ``root`` calls ``name``; it must not leave the folder.

    A list may come from anywhere: ``../../etc/passwd`` or a link to it would make any file of the machine a recording.
    """
    relative = PurePosixPath(name)
    path = Path(root, relative)
    if relative.is_absolute() or ".." in relative.parts or leads_out(root, path):
        return Fault(code="outside", reason=f"{named} leaves the folder; move the recording into it")
    return file_fault(path, named=named, part=part)


class Spellings:
    """Finds files whose names a list spells with other code points: macOS takes "å" apart, into "a" and a ring.

    Holds the names in each folder where one was not found as the list has it.
    """

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, str]] = {}

    def found(self, folder: str | Path, name: str) -> str:
        """``name``, relative to ``folder``, as it is spelled there; unchanged where it is there, or nothing like it is."""
        if name.isascii() or os.path.lexists(Path(folder, name)):
            return name
        at = Path()
        for part in PurePosixPath(name).parts:
            exact = part.isascii() or os.path.lexists(Path(folder, at, part))
            at /= part if exact else self._names(str(Path(folder, at))).get(composed(part), part)
        return str(at)

    def within(self, root: str, name: str) -> str:
        """:meth:`found`, but what leads out of the folder ``root`` is not looked for."""
        relative = PurePosixPath(name)
        return name if relative.is_absolute() or ".." in relative.parts else self.found(root, name)

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = {composed(name): name for name in sorted(os.listdir(folder)) if not name.isascii()}  # noqa: PTH208
            except (OSError, ValueError):  # ValueError: a name with a NUL
                self._listed[folder] = {}
        return self._listed[folder]


def composed(name: str) -> str:
    """A name in the one spelling (NFC) by which names are compared."""
    return unicodedata.normalize("NFC", name)


def leads_out(root: str, path: os.PathLike[str]) -> bool:
    """Whether ``path`` is not in ``root`` once all links are resolved; ``root`` is as :func:`real_name` gives it."""
    real = real_name(path)
    return real is not None and real != root and not real.startswith(root.rstrip(os.sep) + os.sep)


def real_name(path: str | os.PathLike[str]) -> str | None:
    """The path with every link resolved, whether or not it exists; None if no file can have it."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a name with a NUL
        return None

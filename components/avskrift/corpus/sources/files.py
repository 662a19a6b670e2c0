"""What can be said of a recording's file before it is opened."""

from __future__ import annotations

import os
import stat
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

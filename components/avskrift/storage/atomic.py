"""Whole artifacts or none: write to a temporary sibling, then rename.

A temporary name carries the id of the process that writes it, so that what a killed process left behind can be told
from what a living one is writing, and swept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from avskrift.errors import StorageError, disk_full

_TEMPORARY = re.compile(r"^\..+\.tmp-(?P<pid>\d+)-[0-9a-f]{8}$")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and takes the name ``path``.

    Raises:
        DiskFullError: no space was left; nothing remains of the attempt.
        StorageError: the folder cannot be written.
    """
    with _writing(path):
        temporary = _temporary_sibling(path)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``; on success it replaces ``path`` whole.

    Raises:
        DiskFullError: no space was left; nothing remains of the attempt.
        StorageError: the folder cannot be written.
    """
    with _writing(path):
        temporary = _temporary_sibling(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            _replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically. NaN and infinity are refused (ValueError): they are not JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_to_replace(path: Path, *, unless: str) -> None:
    """A result replaces an older result, known by its file ``unless``, or an empty folder; never what somebody else put there.

    Raises:
        StorageError: ``path`` is a file, or holds files and no ``unless``.
    """
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path} is a file; name another folder to write")
    if path.is_dir() and any(path.iterdir()) and not (path / unless).is_file():
        raise StorageError(f"{path} holds files and no {unless}, so it will not be replaced; name another folder to write")


def sweep(folder: Path) -> list[Path]:
    """Remove what dead processes left half written directly in ``folder``; return what was removed."""
    removed = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        match = _TEMPORARY.match(entry.name)
        if match and not psutil.pid_exists(int(match["pid"])):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def _temporary_sibling(path: Path) -> Path:
    return path.parent / f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_folder(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; an older ``target`` is moved aside first, since rename(2) takes empty folders only."""
    aside = _temporary_sibling(target)
    if target.exists():
        target.rename(aside)
    source.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into the error tree's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = disk_full(error, where=path.parent)
        if full is not None:
            raise full from error
        if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another folder or mend its permissions") from error
        raise

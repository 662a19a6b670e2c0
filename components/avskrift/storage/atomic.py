"""Whole artifacts or none: write to a temporary sibling, then rename.

A temporary name carries the id of the process that writes it, so that what a killed process left behind can be told
from what a living one is writing, and swept.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from avskrift.errors import StorageError, disk_full

# tmp: being written. old: the previous artifact, while the new one takes its name.
_LEFT_BEHIND = re.compile(r"^\.(?P<name>.+)\.(?P<kind>tmp|old)-(?P<pid>\d+)-[0-9a-f]{8}$")
_CLOCK_SECONDS = 2.0  # a process's start is known no better
_REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EBUSY,
        errno.EEXIST,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and takes the name ``path``.

    Without ``durable`` it is not flushed: it outlives this process, and not a machine that loses its power.

    Raises:
        DiskFullError: no space was left; nothing remains of the attempt.
        StorageError: the folder cannot be written.
    """
    with _writing(path):
        temporary = _sibling(path, "tmp")
        try:
            yield temporary
            if durable:
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
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        temporary = _sibling(path, "tmp")
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _let_read(file, like=temporary)
                    _flush(file)
            _replace_folder(temporary, path)
        finally:
            _clear(temporary)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there yet.

    Raises:
        DiskFullError, StorageError: it cannot be made.
    """
    with _writing(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        path.mkdir(exist_ok=True)


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
    """Remove what dead processes left half written directly in ``folder``; return what was removed.

    An artifact that was moved aside by a process that died before the new one took its name is put back.
    """
    removed = []
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        match = _LEFT_BEHIND.match(entry.name)
        if not match or _is_being_written(entry, int(match["pid"])):
            continue
        target = folder / match["name"]
        if match["kind"] == "old" and not target.exists():
            entry.rename(target)
            continue
        _remove(entry)
        removed.append(entry)
    return removed


def _sibling(path: Path, kind: Literal["tmp", "old"]) -> Path:
    return path.parent / f".{path.name}.{kind}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _is_being_written(entry: Path, pid: int) -> bool:
    """Whether the process that made ``entry`` lives. Containers give every first process the same number, so its start counts too."""
    try:
        writer = psutil.Process(pid)
        changed = entry.lstat().st_ctime
        return writer.status() != psutil.STATUS_ZOMBIE and writer.create_time() <= changed + _CLOCK_SECONDS
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _clear(temporary: Path) -> None:
    try:
        shutil.rmtree(temporary, ignore_errors=True)
    except KeyboardInterrupt:  # a terminal and a runner both send the signal; the second must not leave half of it behind
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _let_read(file: Path, *, like: Path) -> None:
    """Safetensors writes files that only their owner may read; the next step may run as somebody else."""
    mode = file.stat().st_mode
    wanted = mode | (like.stat().st_mode & 0o444)
    if wanted != mode:
        file.chmod(wanted)


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_folder(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; an older ``target`` is moved aside first, since rename(2) takes empty folders only."""
    aside = _sibling(target, "old")
    try:
        if target.exists():
            target.rename(aside)
        source.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    _remove(aside)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into the error tree's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:
        full = disk_full(error, where=path.parent)
        if full is not None:
            raise full from error
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            culprit = str(error.filename or path)
            at = "" if Path(culprit).is_relative_to(path.parent) else f" at {culprit}"
            raise StorageError(f"cannot write {path}: {error.strerror}{at}; choose another folder or mend its permissions") from error
        raise

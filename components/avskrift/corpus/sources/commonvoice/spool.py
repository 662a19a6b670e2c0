"""Clips that came before the tables which say what they are: on disk, until the tables have come."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from avskrift.errors import StorageError, disk_full
from avskrift.storage.paths import cache
from avskrift.storage.tarball import Kind, Member

_KINDS: tuple[Kind, ...] = ("file", "link", "folder", "other")
_HEAD = struct.Struct(">BQII")  # kind and size of the member, bytes of its name, bytes kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A member in the folder of clips. ``data`` is empty where it cannot be a clip."""

    member: Member
    data: bytes


class ClipSpool:
    """First in, first out, in a file without a name in the cache folder: it goes when the process does, however that ends."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def put(self, found: Found) -> None:
        """Keep one.

        Raises:
            DiskFullError: no space left in the cache folder.
            StorageError: it cannot be written.
        """
        member, name = found.member, found.member.name.encode()
        with _writing():
            if self._file is None:
                cache().mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=cache(), buffering=1 << 20)  # noqa: SIM115  it is closed by take_all or close
            self._file.write(_HEAD.pack(_KINDS.index(member.kind), member.size, len(name), len(found.data)))
            self._file.write(name)
            self._file.write(found.data)

    def take_all(self) -> Iterator[Found]:
        """Everything in the order in which it came; the spool is empty afterwards.

        Raises:
            DiskFullError, StorageError: as for :meth:`put`, since the last of it may still be on its way to the disk.
        """
        file, self._file = self._file, None
        if file is None:
            return
        with file:
            with _writing():
                file.seek(0)
            while head := file.read(_HEAD.size):
                kind, size, name, kept = _HEAD.unpack(head)
                member = Member(name=file.read(name).decode(), kind=_KINDS[kind], size=size)
                yield Found(member=member, data=file.read(kept))

    def close(self) -> None:
        """Drop what is left."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take is not wanted any more
                self._file.close()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = disk_full(error, where=f"{cache()}, where clips wait for the tables that stand behind them")
        if full is not None:
            raise full from error
        raise StorageError(f"cannot write to {cache()}: {error.strerror}; set AVSKRIFT_HOME to a folder on another disk") from error

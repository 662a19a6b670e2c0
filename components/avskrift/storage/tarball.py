"""The members of a tarball, one after the other from a stream, compressed with gzip or not; nothing is unpacked.

Not the standard library's ``tarfile``: that takes a damaged header for the end of the archive, and reads the extension of
a header into memory however long it says that it is.

Sources: POSIX.1-2017, *pax*, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format";
RFC 1952 (gzip).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_BUFFER_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's word for "with a gzip header"
_LONGEST_EXTENSION = 1 << 16  # a path has 4096 bytes at most
_LONGEST_SIZE = 20  # digits: no file has 2**64 bytes
_TRAILER_BYTES = 1 << 20  # tar fills its last record with zeros; beyond that it is somebody else's
_CHECKSUM = slice(148, 156)

Kind = Literal["file", "link", "folder", "other"]
_KINDS: dict[bytes, Kind] = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "link", b"5": "folder"}
_WITHOUT_DATA = frozenset(b"123456")  # links, devices, folders and pipes, whatever size they claim
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"L", b"K", b"x", b"g"


class NotATarballError(ValueError):
    """The bytes are no tarball from the start."""


class BrokenTarballError(ValueError):
    """A tarball that cannot be read to its end. The message says where, and names no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member: its path without a leading "./" or a trailing "/", whatever else it holds, and the bytes of its content."""

    name: str
    kind: Kind
    size: int


class Tarball:
    """Iterate over it once. The content of a member can be read until the next is asked for; what is not read is passed over.

    Raises:
        NotATarballError: in iterating, at once.
        BrokenTarballError: in iterating and in reading.
        StorageError: what the stream raises.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        counted = _Counted(stream)
        stored = io.BufferedReader(counted, _BUFFER_BYTES)
        compressed = stored.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        self._counted = counted
        self._plain = io.BufferedReader(_Gunzip(stored), _BUFFER_BYTES) if compressed else stored
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        first = True
        while (member := self._next(first)) is not None:
            yield member
            first = False
        # To the end of the stream, where gzip keeps its checksum.
        self._plain.read(_TRAILER_BYTES)

    def read(self) -> bytes:
        """The rest of the current member, in memory: look at its size first."""
        data = self._exactly(self._left)
        self._left = 0
        return data

    def readline(self, limit: int, /) -> bytes:
        """The next line of the current member with its end, at most ``limit`` bytes of it; b"" at the end of the member."""
        line = self._plain.readline(min(self._left, limit))
        if not line and self._left:
            raise self._cut_short()
        self._left -= len(line)
        return line

    def _next(self, first: bool) -> Member | None:
        self._skip(self._left + self._padding)
        name, size = "", None
        while True:
            block = self._plain.read(_BLOCK)
            if len(block) < _BLOCK:
                raise NotATarballError("it is empty" if not block else "it is too short for one") if first else self._cut_short()
            if block == _ZEROS:
                return None
            self._check(block, first)
            kind, first = block[156:157], False
            self._set_content(kind, self._number(block[124:136]))
            if kind == _EXTENDED:
                name, size = self._extended(self._extension(), name, size)
            elif kind == _LONG_NAME:
                name = _text(self._extension())
            elif kind in (_LONG_LINK, _GLOBAL):
                self._extension()
            else:
                self._set_content(kind, self._left if size is None else size)
                name = name or _name(block)
                return Member(name=_plain_name(name), kind=_kind(kind, name), size=self._left)

    def _set_content(self, kind: bytes, size: int) -> None:
        self._left = 0 if kind[0] in _WITHOUT_DATA else size
        self._padding = -self._left % _BLOCK

    def _check(self, block: bytes, first: bool) -> None:
        """The sum of a header's bytes, its own field counted as spaces."""
        field = block[_CHECKSUM].strip(b" \0")
        if not field.isdigit() or sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ") != self._number(field):
            raise NotATarballError("its first bytes are not those of one") if first else self._damaged("the header of a member is damaged")

    def _number(self, field: bytes) -> int:
        """Octal digits or, where they would not do, GNU's big-endian number after a byte of 0x80."""
        if field[:1] == b"\x80":
            return int.from_bytes(field[1:], "big")
        digits = field.partition(b"\0")[0].strip(b" ")
        if digits.strip(b"01234567"):
            raise self._damaged("the header of a member has a size that is no number")
        return int(digits or b"0", 8)

    def _extension(self) -> bytes:
        if self._left > _LONGEST_EXTENSION:
            raise self._damaged(f"the header of a member goes on for {self._left} bytes")
        data = self._exactly(self._left + self._padding)[: self._left]
        self._left = self._padding = 0
        return data

    def _extended(self, data: bytes, name: str, size: int | None) -> tuple[str, int | None]:
        """The path and the size of a pax header: records like ``30 path=a/long/name\\n``, the length first."""
        position = 0
        while position < len(data):
            digits = data[position : position + 20].partition(b" ")[0]
            end = position + int(digits) if digits.isdigit() else 0
            record = data[position + len(digits) + 1 : end]
            if not record.endswith(b"\n") or end > len(data):
                raise self._damaged("the extended header of a member is damaged")
            key, _, value = record[:-1].partition(b"=")
            if key == b"path":
                name = _text(value)
            elif key == b"size" and value.isdigit():
                if len(value) > _LONGEST_SIZE:
                    raise self._damaged("the extended header of a member is damaged")
                size = int(value)
            position = end
        return name, size

    def _exactly(self, count: int) -> bytes:
        data = self._plain.read(count)
        if len(data) < count:
            raise self._cut_short()
        return data

    def _skip(self, count: int) -> None:
        while count > 0:
            read = len(self._plain.read(min(count, _BUFFER_BYTES)))
            if not read:
                raise self._cut_short()
            count -= read

    def _cut_short(self) -> BrokenTarballError:
        return BrokenTarballError(f"it is cut short after {_mebibytes(self._counted.count)}")

    def _damaged(self, what: str) -> BrokenTarballError:
        return BrokenTarballError(f"it is damaged in its first {_mebibytes(self._counted.count)} ({what})")


class _Counted(io.RawIOBase):
    """Counts what is taken from a stream."""

    def __init__(self, stream: io.RawIOBase) -> None:
        super().__init__()
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        read = self._stream.readinto(buffer) or 0
        self.count += read
        return read


class _Gunzip(io.RawIOBase):
    """What gzip compressed, one or several streams of it one after the other. At most a buffer of it is ever unpacked."""

    def __init__(self, stored: io.BufferedReader[_Counted]) -> None:
        super().__init__()
        self._stored = stored
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
        self._waiting = b""
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            if self._unpacker.eof and not self._begin_next():
                return 0
            if not self._waiting and not self._fill():
                raise BrokenTarballError(f"it is cut short after {_mebibytes(self._read)}")
            try:
                data = self._unpacker.decompress(self._waiting, len(buffer))
            except zlib.error as error:
                raise BrokenTarballError(f"it is damaged in its first {_mebibytes(self._read)}") from error
            self._waiting = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _begin_next(self) -> bool:
        """Whether another stream follows. Anything else behind the first, zeros above all, is left alone, as gzip does."""
        while len(self._waiting) < len(_GZIP) and self._fill():
            pass
        if not self._waiting.startswith(_GZIP):
            return False
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
        return True

    def _fill(self) -> bool:
        more = self._stored.read1(_BUFFER_BYTES)
        self._waiting += more
        self._read += len(more)
        return bool(more)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # GNU's own format keeps times where POSIX keeps the first part of a long path.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _kind(kind: bytes, name: str) -> Kind:
    if kind == b"\0" and name.endswith("/"):  # as tar wrote folders before POSIX
        return "folder"
    return _KINDS.get(kind, "other")


def _plain_name(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name.rstrip("/")


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"

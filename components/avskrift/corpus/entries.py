"""What a source of recordings gives: entries, each a transcript and a way to read its recording."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.audio.decode import Audio, decode, decode_path

LICENCE_UNKNOWN = "not stated by the source"
MAX_SECONDS = float(WINDOW_SECONDS)
# Half a minute of eight channels at 44.1 kHz in 16 bits is 21 MB. More is not a clip, and is never read into memory.
MAX_CLIP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an entry cannot be used, found by its source before the recording was read.

    missing: the recording or its transcript is not there. outside: its name or a link leads out of the source.
    too_long: more than :data:`MAX_CLIP_BYTES`. undecodable: not one of the formats, by its name or kind.
    """

    code: Literal["missing", "outside", "too_long", "undecodable"]
    reason: str


def read_nothing() -> Audio:
    """The ``read`` of an entry that has nothing to read: one with a fault, or one that is only listed."""
    raise LookupError("this entry has nothing to read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recording with its transcript, as a source names them; nothing has been read yet.

    ``location`` says where in the source it is, the same on every machine. ``read`` decodes the recording to 16 kHz mono
    and raises the AudioErrors of :func:`avskrift.audio.decode.decode`; it is pickled and called in another process, so make
    it with :func:`recording_at` or :func:`recording_of`. ``speaker`` is the source's own name, not yet hashed. What a
    source does not say is "". An entry that ``gives_way`` is left out where its speaker or its sentence is in the
    validation or test split; any other such overlap between named splits is a fault of the source. ``recording`` is the same
    for all entries that are in one recording, where it holds several; it is only compared.
    """

    location: str
    text: str
    read: Callable[[], Audio] = field(default=read_nothing, compare=False)
    fault: Fault | None = None
    clip_id: str = ""
    split: str = ""
    speaker: str = ""
    recording: str = ""
    gender: str = ""
    age: str = ""
    accent: str = ""
    up_votes: int = 0
    down_votes: int = 0
    gives_way: bool = False


class Source(Protocol):
    """A place that recordings with transcripts come from."""

    @property
    def uri(self) -> str:
        """The source as the user named it."""

    @property
    def licence(self) -> str:
        """Under which terms it may be used."""

    @property
    def remote(self) -> bool:
        """Whether even a listing may have to fetch most of the source; it is then asked for only to choose some clips."""

    def listing(self) -> Iterator[Entry]:
        """The entries as far as metadata tell them, without reading a recording; their ``read`` is never called.

        As cheap as the source allows: it is walked before the long work, to refuse early and to choose some clips. The
        entries that are asked for next may use what it found, so it is walked to its end.

        Raises:
            SourceError: the source is not there, or its metadata cannot be understood.
        """

    def entries(self) -> Iterator[Entry]:
        """All entries, the faulty ones too, in an order that is the same each time, streaming: memory must not grow with them.

        Raises:
            SourceError: the source is not there, or its metadata cannot be understood.
            StorageError: it could not be read to its end.
        """


@runtime_checkable
class Stamped(Protocol):
    """A ``read`` that can tell, without decoding, whether it would give what it gave before."""

    def stamp(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _InFile:
    path: Path
    offset_s: float
    duration_s: float | None

    def __call__(self) -> Audio:
        return decode_path(self.path, max_seconds=MAX_SECONDS, offset_s=self.offset_s, duration_s=self.duration_s)

    def stamp(self) -> str:
        try:
            status = self.path.stat()
        except OSError as error:
            return str(error.errno)
        return f"{status.st_size} {status.st_mtime_ns} {self.offset_s} {self.duration_s}"


@dataclass(frozen=True, slots=True)
class _InMemory:
    data: bytes

    def __call__(self) -> Audio:
        return decode(self.data, max_seconds=MAX_SECONDS)

    def stamp(self) -> str:
        return f"{len(self.data)} {zlib.crc32(self.data)}"


def recording_at(path: Path, *, offset_s: float = 0.0, duration_s: float | None = None) -> Callable[[], Audio]:
    """The ``read`` of a recording in a file, or of a part of one."""
    return _InFile(path, offset_s, duration_s)


def recording_of(data: bytes) -> Callable[[], Audio]:
    """The ``read`` of a recording whose bytes are at hand."""
    return _InMemory(data)


def held_bytes(entry: Entry) -> int:
    """How much of the recording is in memory already."""
    return len(entry.read.data) if isinstance(entry.read, _InMemory) else 0


def oversized(size: int) -> Fault | None:
    """The fault of a recording of ``size`` bytes, if that is too much for a clip."""
    if size <= MAX_CLIP_BYTES:
        return None
    return Fault(code="too_long", reason=f"{size:,} bytes are over the limit of {MAX_CLIP_BYTES:,} for one clip")


def tidy(text: str) -> str:
    """Text as it is kept: composed (NFC), one space for any run of white space, valid Unicode."""
    return " ".join(unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).split())

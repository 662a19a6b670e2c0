"""What a source of recordings gives: entries, each a transcript and a way to read its recording."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from avskrift.audio.decode import decode, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A recording, decoded: 16 kHz mono in [-1, 1], with a digest of what it was read from."""

    samples: npt.NDArray[np.float32]
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recording with its transcript, as a source names them; nothing has been read yet.

    ``location`` says where in the source it is, the same on every machine. ``missing`` is a sentence where the
    recording or its transcript is not there, else "". ``speaker`` is the source's own name, not yet hashed;
    what a source does not say is "". ``read`` raises the AudioErrors of :func:`avskrift.audio.decode.decode`.
    """

    location: str
    text: str
    read: Callable[[], Reading] = field(compare=False)
    clip_id: str = ""
    split: str = ""
    speaker: str = ""
    gender: str = ""
    age: str = ""
    accent: str = ""
    missing: str = ""


class Source(Protocol):
    """A place that recordings with transcripts come from."""

    @property
    def uri(self) -> str:
        """The source as the user named it."""

    @property
    def licence(self) -> str:
        """Under which terms it may be used."""

    def entries(self) -> Iterator[Entry]:
        """All entries, the missing halves too, in any order. Only metadata is read.

        Raises:
            SourceError: the source is not there, or its metadata cannot be understood.
        """


def identified(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in an order of their own (not the source's), each with a clip id of its own.

    An id that the source gives is kept; the others are a hash of the location, and of a number where a location
    returns.
    """
    ordered = sorted(entries, key=lambda entry: (entry.location, entry.text, entry.speaker, entry.split))
    seen: dict[str, int] = {}
    numbered = []
    for entry in ordered:
        times = seen[entry.location] = seen.get(entry.location, 0) + 1
        name = entry.location if times == 1 else f"{entry.location}#{times}"
        numbered.append(entry if entry.clip_id else replace(entry, clip_id=hashlib.sha256(name.encode()).hexdigest()[:16]))
    return numbered


def tidy(text: str) -> str:
    """Text as it is kept: composed (NFC), one space for any run of white space, valid Unicode."""
    return " ".join(unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).split())


def read_recording(path: Path, max_seconds: float) -> Reading:
    """Read and decode a recording.

    Raises:
        AudioError: one of the classes that :func:`avskrift.audio.decode.decode` raises.
    """
    data = read_file(path)
    return Reading(samples=decode(data, max_seconds=max_seconds), content_sha256=hashlib.sha256(data).hexdigest())


def read_nothing() -> Reading:
    """The ``read`` of an entry that is missing."""
    raise LookupError("an entry that is missing has nothing to read")

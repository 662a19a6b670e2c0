"""Encoded clips on disk between validation and the draw of the splits, so that memory does not grow with the corpus."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Slot:
    """Where in the spool a clip's bytes are."""

    offset: int
    length: int


class Spool:
    """A file that is there while the ``with`` block lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._end = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        self._path.unlink(missing_ok=True)
        # On a full disk the buffer cannot be written out, which would hide the first error; nobody needs it any more.
        with suppress(OSError):
            self._file.close()

    def put(self, data: bytes) -> Slot:
        """Append ``data``."""
        slot = Slot(self._end, len(data))
        self._file.seek(slot.offset)
        self._file.write(data)
        self._end += slot.length
        return slot

    def get(self, slot: Slot) -> bytes:
        """The bytes that :meth:`put` was given."""
        self._file.seek(slot.offset)
        return self._file.read(slot.length)

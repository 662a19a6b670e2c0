"""Rows of metadata: CSV, TSV and JSON Lines, with the column names that people use for the same thing."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.corpus.entries import Entry, Fault, read_nothing, recording_at, tidy
from avskrift.corpus.sources.columns import DESCRIPTIVE, RECORDING, TRANSCRIPT, VOTES, described, either, first_of, seconds
from avskrift.corpus.sources.files import composed
from avskrift.errors import SourceError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF16_ADVICE = "save it as UTF-8, for instance with `iconv -f UTF-16 -t UTF-8`"
UTF8_ADVICE = "save it as UTF-8, for instance with `iconv -f ISO-8859-1 -t UTF-8`"

_DELIMITER_HINT = re.compile(r'"?sep=(?P<delimiter>[,;|\t])"?', re.IGNORECASE)  # Excel's, in the first line
_PART = ("offset", "duration")
_KNOWN = frozenset({*RECORDING, *TRANSCRIPT, *_PART, *VOTES, *(name for names in DESCRIPTIVE.values() for name in names)})
_LONGEST_CELL = 1 << 20
_LONGEST_LINE = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """From ``offset_s`` for ``duration_s`` seconds, or to the end of the recording where that is None."""

    offset_s: float
    duration_s: float | None

    def fragment(self) -> str:
        """The part as a media fragment writes it, "#t=12.5,17.25". Source: W3C, *Media Fragments URI 1.0*, section 4.2.1."""
        end = "" if self.duration_s is None else f",{_decimal(self.offset_s + self.duration_s)}"
        return f"#t={_decimal(self.offset_s)}{end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, its values stripped. ``text`` is None where the row has no transcript; ``line`` counts from 1."""

    line: int
    recording: str
    text: str | None
    part: Part | None
    optional: dict[str, Any]

    def entry(self, *, location: str, path: Path, fault: Fault | None, cut: CutRecordings) -> Entry:
        """The row as an entry of a source, whose recording is in ``path`` unless there is a ``fault``.

        Parts without a speaker have their recording for one, and so has a row with all of it: in two splits they would have
        the same voice and room.
        """
        if self.text is None and fault is None:
            fault = Fault(code="missing", reason=f"{location!r}, line {self.line}, has no transcript")
        place = cut.place(self)
        alone = cut.unnamed.get(place, False) and not self.optional["speaker"]
        part = self.part or Part(offset_s=0.0, duration_s=None)
        return Entry(
            location=location + (self.part.fragment() if self.part else ""),
            text=self.text or "",
            read=read_nothing if fault else recording_at(path, offset_s=part.offset_s, duration_s=part.duration_s),
            fault=fault,
            recording=place if place in cut.unnamed else "",
            **self.optional | ({"speaker": f"recording {location}"} if alone else {}),
        )


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV, TSV or JSON Lines file, told apart by its suffix; one is held at a time.

    ``offset`` and ``duration`` are NeMo's, in seconds. A row that gives an offset is a part of its recording, except that
    an offset of 0 without a duration is the whole of it. A duration alone only states how long the recording is, and may be
    written in any way.

    Raises:
        SourceError: it cannot be read, is not UTF-8, lacks a column, or a line is broken; the message has the line.
    """
    lines = _lines(path)
    rows = _json_lines(path, lines) if path.suffix.lower() in (".jsonl", ".json") else _table(path, lines)
    for line, values in rows:
        yield _row(path, line, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRecordings:
    """The recordings that rows of a list are parts of, by their places; ``unnamed`` says whether one of those rows has no speaker.

    Names in the list are relative to ``folder``.
    """

    folder: str | Path
    unnamed: Mapping[str, bool]

    def place(self, row: Row) -> str:
        """Where the row's recording lies, in one spelling."""
        return _place(self.folder, row)


def cut_recordings(path: Path, folder: str | Path) -> CutRecordings:
    """From a list of rows, which is read to its end.

    Raises:
        SourceError: as :func:`read_rows`.
    """
    unnamed: dict[str, bool] = {}
    for row in read_rows(path):
        if row.part:
            place = _place(folder, row)
            unnamed[place] = unnamed.get(place, False) or not row.optional["speaker"]
    return CutRecordings(folder=folder, unnamed=unnamed)


def _place(folder: str | Path, row: Row) -> str:
    return composed(os.path.abspath(os.path.join(folder, row.recording)))  # noqa: PTH100, PTH118  # a Path keeps ".."


def _row(path: Path, line: int, values: Mapping[str, str]) -> Row:
    recording = _first(values, RECORDING)
    if not recording:
        raise SourceError(f"{path}, line {line}: names no recording; put its file name under {either(RECORDING)}")
    text = _first(values, TRANSCRIPT)
    try:
        part, optional = _part(values), described(values)
    except ValueError as error:
        raise SourceError(f"{path}, line {line}: {error}") from error
    return Row(line=line, recording=recording, text=None if text is None else tidy(text), part=part, optional=optional)


def _part(values: Mapping[str, str]) -> Part | None:
    """See :func:`read_rows`."""
    offset, duration = (_first(values, (name,)) for name in _PART)
    if not offset:
        return None
    offset_s, duration_s = seconds("offset", offset), seconds("duration", duration) if duration else None
    if offset_s == 0 and duration_s is None:
        return None
    return Part(offset_s=offset_s, duration_s=duration_s)


def _first(values: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The value of the first column that is there, stripped."""
    name = first_of(names, values)
    return None if name is None else values[name].strip()


def _json_lines(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {number}: not JSON ({error}); a manifest holds one JSON object on each line") from error
        if not isinstance(value, dict):
            raise SourceError(f"{path}, line {number}: not a JSON object; a manifest holds one JSON object on each line")
        yield number, _strings(path, number, value)


def _strings(path: Path, line: int, values: dict[str, Any]) -> dict[str, str]:
    """The row's own keys as strings; null counts as absent, and keys that mean nothing here may hold anything."""
    strings = {}
    meaningless = set() if str("" if values.get("offset") is None else values["offset"]).strip() else {"duration"}
    for name in sorted((_KNOWN & values.keys()) - meaningless):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise SourceError(f"{path}, line {line}: {name!r} is not a string; give one string for each recording")
        if isinstance(value, float) and not math.isfinite(value):  # json.loads takes NaN, which is not JSON
            raise SourceError(f"{path}, line {line}: {name!r} is {value}; give a value, or null where there is none")
        if value is not None:
            strings[name] = str(value)
    return strings


def _table(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader, skipped = _reader(path, lines)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_columns(path, header)
        for cells in reader:
            line = reader.line_num + skipped
            if len(cells) > len(header):
                raise SourceError(
                    f"{path}, line {line}: has {len(cells)} cells and the header {len(header)}; quote what holds the separator"
                )
            if cells:
                yield line, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num + skipped}: not a table ({error}); export it again as CSV in UTF-8") from error


def _reader(path: Path, lines: Iterator[str]) -> tuple[Any, int]:
    """A csv reader whose first line is the header, and how many lines are before it.

    TSV has no quotes: a sentence may begin with one.
    """
    csv.field_size_limit(_LONGEST_CELL)
    if path.suffix.lower() == ".tsv":
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 0
    first = next(lines, "")
    hint = _DELIMITER_HINT.fullmatch(first.rstrip("\r\n"))
    if hint:
        return csv.reader(lines, delimiter=hint["delimiter"], strict=True), 1
    # Spreadsheets in Swedish (and other languages with a decimal comma) export with semicolons, and as "Unicode text" with tabs.
    delimiter = next((each for each in ",;\t" if each in first), ",")
    return csv.reader(_with_first(first, lines), delimiter=delimiter, strict=True), 0


def _with_first(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines


def _check_columns(path: Path, header: list[str]) -> None:
    for what, names in (("recordings", RECORDING), ("transcripts", TRANSCRIPT)):
        if not set(names) & set(header):
            found = ", ".join(header) or "no header"
            raise SourceError(f"{path}: no column for the {what}; name it {either(names)} (found: {found})")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), start=1):
                yield _decoded(path, number, raw)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the name and its permissions") from error


def _decoded(path: Path, line: int, raw: bytes) -> str:
    if line == 1 and b"\r" in raw.rstrip(b"\r\n") and not raw.startswith(_UTF16_MARKS):
        raise SourceError(f"{path}: its lines end in CR alone; write LF instead, for instance with `tr '\\r' '\\n'`, or export it again")
    if len(raw) > _LONGEST_LINE:
        raise SourceError(f"{path}, line {line}: is longer than {_LONGEST_LINE >> 20} MiB; write one line for each recording")
    try:
        # Spreadsheets and Windows put a byte order mark first; anywhere else it would be a character.
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, line {line}: {not_utf8(error)}") from error


def not_utf8(error: UnicodeDecodeError) -> str:
    """What to say of bytes that are not UTF-8."""
    advice = _UTF16_ADVICE if error.object.startswith(_UTF16_MARKS) else UTF8_ADVICE
    return f"not UTF-8 (byte {error.start + 1} is 0x{error.object[error.start]:02x}); {advice}"


def _decimal(number: float) -> str:
    """To the microsecond, without zeros that say nothing."""
    return f"{number:.6f}".rstrip("0").rstrip(".")

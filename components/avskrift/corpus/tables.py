"""Rows of metadata: CSV, TSV and JSON Lines, with the column names that people use for the same thing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.corpus.entries import Entry, Reading, tidy
from avskrift.errors import SourceError

# NeMo, Hugging Face AudioFolder and Common Voice, in this order where a row has several.
_RECORDING = ("audio_filepath", "file_name", "path", "file", "audio", "filename")
_TRANSCRIPT = ("text", "transcription", "sentence", "transcript")
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "split": ("split",),
    "speaker": ("speaker_id", "client_id", "speaker"),
    "gender": ("gender",),
    "age": ("age",),
    "accent": ("accent", "accents"),
}
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_NO_OFFSET = (None, "", "0", "0.0")
_LONGEST_CELL = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, its values stripped. ``text`` is None where the row has no transcript; ``line`` counts from 1."""

    line: int
    recording: str
    text: str | None
    optional: dict[str, str]

    def entry(self, *, location: str, read: Callable[[], Reading], missing: str = "") -> Entry:
        """The row as an entry of a source."""
        return Entry(location=location, text=self.text or "", read=read, missing=missing, **self.optional)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV, TSV or JSON Lines file, told apart by its suffix.

    Raises:
        SourceError: it cannot be read, is not UTF-8, lacks a column, or a line is broken; the message has the line.
    """
    lines = _lines(path)
    rows = _json_lines(path, lines) if path.suffix.lower() in (".jsonl", ".json") else _table(path, lines)
    for line, values in rows:
        yield _row(path, line, values)


def _row(path: Path, line: int, values: Mapping[str, str]) -> Row:
    recording = _first(values, _RECORDING)
    if not recording:
        raise SourceError(f"{path}, line {line}: names no recording; put its file name under {_either(_RECORDING)}")
    if _first(values, ("offset",)) not in _NO_OFFSET:
        raise SourceError(f"{path}, line {line}: has an offset, and parts of recordings are not read; cut the recording into one file each")
    text = _first(values, _TRANSCRIPT)
    optional = {name: tidy(_first(values, columns) or "") for name, columns in _OPTIONAL.items()}
    return Row(line=line, recording=recording, text=None if text is None else tidy(text), optional=optional)


def _first(values: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The value of the first column that is there, stripped."""
    return next((values[name].strip() for name in names if name in values), None)


def _json_lines(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise SourceError(f"{path}, line {number}: not JSON ({error}); a manifest holds one JSON object on each line") from error
        if not isinstance(value, dict):
            raise SourceError(f"{path}, line {number}: not a JSON object; a manifest holds one JSON object on each line")
        yield number, _strings(path, number, value)


def _strings(path: Path, line: int, values: dict[str, Any]) -> dict[str, str]:
    """The row's own keys as strings; null counts as absent, and keys that mean nothing here may hold anything."""
    known = {*_RECORDING, *_TRANSCRIPT, "offset", *(column for columns in _OPTIONAL.values() for column in columns)}
    for name in known & values.keys():
        if not isinstance(values[name], str | int | float | None):
            raise SourceError(f"{path}, line {line}: {name!r} is not a string; give one string for each recording")
    return {name: str(values[name]) for name in known & values.keys() if values[name] is not None}


def _table(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = _reader(path, lines)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_columns(path, header)
        for cells in reader:
            if len(cells) > len(header):
                raise SourceError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells and the header {len(header)}; quote what holds the separator"
                )
            if cells:
                yield reader.line_num, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: not a table ({error}); export it again as CSV in UTF-8") from error


def _reader(path: Path, lines: Iterator[str]) -> Any:
    """A csv reader whose first line is the header. TSV has no quotes: a sentence may begin with one."""
    csv.field_size_limit(_LONGEST_CELL)
    if path.suffix.lower() == ".tsv":
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    first = next(lines, "")
    # Spreadsheets in Swedish (and other languages with a decimal comma) export with semicolons.
    delimiter = ";" if ";" in first and "," not in first else ","
    return csv.reader(_with_first(first, lines), delimiter=delimiter, strict=True)


def _with_first(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines


def _check_columns(path: Path, header: list[str]) -> None:
    for what, names in (("recordings", _RECORDING), ("transcripts", _TRANSCRIPT)):
        if not set(names) & set(header):
            found = ", ".join(header) or "no header"
            raise SourceError(f"{path}: no column for the {what}; name it {_either(names)} (found: {found})")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield _decoded(path, number, raw)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the name and its permissions") from error


def _decoded(path: Path, line: int, raw: bytes) -> str:
    try:
        # Spreadsheets and Windows put a byte order mark first; anywhere else it would be a character.
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, line {line}: not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x}); {UTF8_ADVICE}") from error


UTF8_ADVICE = "save it as UTF-8, for instance with `iconv -f ISO-8859-1 -t UTF-8`"


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"

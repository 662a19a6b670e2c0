"""The tables of a Common Voice release: which clips are in which split, who reads what in them.

Releases since 7 have the columns client_id, path, [sentence_id], sentence, [sentence_domain], up_votes, down_votes, age,
gender, accents (accent in the older ones), [variant], locale, segment. They are found by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from avskrift.audio.decode import Audio
from avskrift.corpus.entries import Entry, Fault, read_nothing, tidy
from avskrift.corpus.sources.tables import UTF8_ADVICE
from avskrift.errors import SourceError

SPLIT_TABLES: Mapping[str, str] = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}
VALIDATED_TABLE = "validated.tsv"
TABLES = frozenset({*SPLIT_TABLES, VALIDATED_TABLE})
LONGEST_LINE = 1 << 20

_REQUIRED = ("client_id", "path", "sentence")
_ACCENTS = ("accents", "accent")
_REMAINDER = "remainder"
_ORIGINS = (*SPLIT_TABLES.values(), _REMAINDER)
# The spellings since release 17 say the same as the older ones. What else people say of themselves is few clips each.
_GENDERS = {"male": "male", "male_masculine": "male", "female": "female", "female_feminine": "female"}
_UNSAID = frozenset({"", "do_not_wish_to_say"})
# The tables are written without quotes, with a backslash before a tab, and in some releases before a backslash.
_ESCAPED = re.compile(r"\\([\\\t\"])")
_CELL_END = re.compile(r"(?<!\\)\t")

Readline = Callable[[int], bytes]
Read = Callable[[], Audio]


class ClipIndex:
    """The clips of the splits and, with ``validated_remainder``, the validated clips that are in none.

    A row takes some 300 bytes: 25,000 clips are 8 MB.
    """

    def __init__(self, *, validated_remainder: bool) -> None:
        self._needed = set(SPLIT_TABLES) | ({VALIDATED_TABLE} if validated_remainder else set())
        self._rows: dict[bytes, bytes] = {}  # by path: origin, number of the speaker, votes, sentence
        self._speakers: list[tuple[str, str, str, str]] = []  # client_id, gender, age, accent
        self._numbers: dict[tuple[str, str, str, str], int] = {}

    @property
    def needed(self) -> frozenset[str]:
        """The tables that have not been read yet."""
        return frozenset(self._needed)

    def __contains__(self, clip: str) -> bool:
        return clip.encode() in self._rows

    def read_table(self, name: str, readline: Readline, *, shown: str) -> None:
        """Read one of the :attr:`needed` tables; ``shown`` is how messages call it.

        Raises:
            SourceError: a column is missing, a line is broken, or a clip is in two splits.
        """
        self._needed.discard(name)
        origin = SPLIT_TABLES.get(name, _REMAINDER)
        lines = _lines(readline, shown)
        header = _header(next(lines, (1, ""))[1], shown)
        for number, line in lines:
            cells = _cells(line, len(header))
            if len(cells) != len(header):
                raise SourceError(
                    f"{shown}, line {number}: is broken: it has {len(cells)} cells and the header {len(header)}; download the release again"
                )
            self._add(origin, dict(zip(header, cells, strict=True)), f"{shown}, line {number}")

    def take(self, clip: str, *, read: Read = read_nothing, fault: Fault | None = None) -> Entry | None:
        """The entry of a clip that was found, and forget it; None of one that is in no split or was taken before."""
        row = self._rows.pop(clip.encode(), None)
        return None if row is None else self._entry(clip, row, read, fault)

    def entries(self, *, in_order: bool = False) -> Iterator[Entry]:
        """All entries that were not taken, with nothing to read; ``in_order`` of their paths, else as the tables have them."""
        for clip in sorted(self._rows) if in_order else self._rows:
            yield self._entry(clip.decode(), self._rows[clip], read_nothing, None)

    def _add(self, origin: str, row: Mapping[str, str], where: str) -> None:
        path = row["path"].encode()
        if not path:
            raise SourceError(f"{where}: names no clip; download the release again")
        known = self._rows.get(path)
        if known is not None:
            before = _ORIGINS[known[0]]
            if _REMAINDER not in (origin, before) or origin == before:
                raise SourceError(
                    f"{where}: {row['path']!r} is there already, in {_table_of(before)}; a clip has one split, so remove one of the two"
                )
            if origin == _REMAINDER:
                return
        self._rows[path] = self._packed(origin, row, where)

    def _packed(self, origin: str, row: Mapping[str, str], where: str) -> bytes:
        accent = next((row[name] for name in _ACCENTS if name in row), "")
        said = (row["client_id"].strip(), _gender(row.get("gender", "")), _said(row.get("age", "")), tidy(accent))
        number = self._numbers.get(said)
        if number is None:
            number = self._numbers[said] = len(self._speakers)
            self._speakers.append(said)
        votes = [_votes(row, name, where) for name in ("up_votes", "down_votes")]
        return bytes([_ORIGINS.index(origin)]) + "\t".join([str(number), *votes, tidy(row["sentence"])]).encode()

    def _entry(self, clip: str, row: bytes, read: Read, fault: Fault | None) -> Entry:
        origin = _ORIGINS[row[0]]
        number, up_votes, down_votes, sentence = row[1:].decode().split("\t")
        client_id, gender, age, accent = self._speakers[int(number)]
        return Entry(
            location=clip,
            text=sentence,
            read=read,
            fault=fault,
            split="train" if origin == _REMAINDER else origin,
            speaker=client_id,
            gender=gender,
            age=age,
            accent=accent,
            up_votes=int(up_votes),
            down_votes=int(down_votes),
            gives_way=origin == _REMAINDER,
        )


def check_complete(index: ClipIndex, where: str) -> None:
    """Refuse a release without one of its tables.

    Raises:
        SourceError: the message names them.
    """
    if index.needed:
        missing = ", ".join(sorted(index.needed))
        raise SourceError(f"{where}: has no {missing}; a delta release has none of the splits, so give the full one")


def is_outside(clip: str) -> bool:
    """Whether a name is no plain path below the folder of clips."""
    return "\0" in clip or clip.startswith("/") or ".." in PurePosixPath(clip).parts


def absence(clip: str) -> Fault:
    """The fault of a clip that a table names and that was not found."""
    if is_outside(clip):
        return Fault(code="outside", reason=f"{clip!r} leads out of the release")
    return Fault(code="missing", reason=f"{clip!r} is in a table of the release, and the recording is not there")


def _lines(readline: Readline, shown: str) -> Iterator[tuple[int, str]]:
    """The lines that hold something, numbered from 1, without their ends."""
    number = 0
    while line := readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise SourceError(f"{shown}, line {number}: is longer than {LONGEST_LINE >> 20} MiB; this is no table of Common Voice")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x})"
            raise SourceError(f"{shown}, line {number}: {reason}; {UTF8_ADVICE}") from error
        if text:
            yield number, text


def _header(line: str, shown: str) -> list[str]:
    header = [name.strip().lower() for name in line.split("\t")]
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        found = ", ".join(header)[:200] or "nothing"
        raise SourceError(f"{shown}: has no column {', '.join(missing)} (found: {found}); it is no table of Common Voice")
    return header


def _cells(line: str, count: int) -> list[str]:
    cells = line.split("\t")
    if "\\" not in line:
        return cells
    if len(cells) != count:
        cells = _CELL_END.split(line)
    return [_ESCAPED.sub(r"\1", cell) for cell in cells]


def _votes(row: Mapping[str, str], name: str, where: str) -> str:
    votes = row.get(name, "").strip() or "0"
    if not (votes.isascii() and votes.isdigit()):
        raise SourceError(f"{where}: {name} is {votes[:40]!r}, not a count; download the release again")
    return votes


def _gender(value: str) -> str:
    said = _said(value).lower()
    return _GENDERS.get(said, "other") if said else ""


def _said(value: str) -> str:
    said = value.strip()
    return "" if said in _UNSAID else said


def _table_of(origin: str) -> str:
    return next((table for table, split in SPLIT_TABLES.items() if split == origin), VALIDATED_TABLE)

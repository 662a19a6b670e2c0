"""A release of Common Voice that was unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from avskrift.corpus.entries import Entry, recording_at
from avskrift.corpus.sources.commonvoice.index import SPLIT_TABLES, ClipIndex, absence, check_complete, is_outside
from avskrift.corpus.sources.commonvoice.locale import Locale
from avskrift.corpus.sources.files import fault_within, leads_out, real_name
from avskrift.errors import SourceError

_CLIPS = "clips"


def read_release(folder: Path, index: ClipIndex, locale: Locale, where: str) -> Path:
    """Read the tables that ``index`` needs; the folder of the language, in ``folder`` or up to two folders below it.

    Raises:
        SourceError: there is none, or several, or a table is missing or cannot be understood.
    """
    found = _language_folder(folder, locale, where)
    for name in sorted(index.needed):
        table = found / name
        if not table.is_file():
            continue
        if leads_out(real_name(found) or "", table):
            raise SourceError(f"{table}: is a link out of the release; put the table itself there")
        try:
            with table.open("rb") as file:
                index.read_table(name, file.readline, shown=str(table))
        except OSError as error:
            raise SourceError(f"{table}: cannot be read ({error.strerror}); check its permissions") from error
    check_complete(index, str(found))
    return found


def folder_entries(folder: Path, index: ClipIndex) -> Iterator[Entry]:
    """The entries of ``index`` by the names of their clips, which are in ``folder``, that of the language."""
    root = real_name(folder) or ""
    for entry in index.entries(in_order=True):
        clip = entry.location
        fault = absence(clip) if is_outside(clip) else fault_within(root, f"{_CLIPS}/{clip}", named=repr(clip))
        yield replace(entry, fault=fault) if fault else replace(entry, read=recording_at(folder / _CLIPS / clip))


def _language_folder(folder: Path, locale: Locale, where: str) -> Path:
    levels = [[folder]]
    try:
        for _ in range(2):
            levels.append(sorted(child for parent in levels[-1] for child in parent.iterdir() if child.is_dir()))
    except OSError as error:
        raise SourceError(f"{where}: {error.filename} cannot be read ({error.strerror}); check its permissions") from error
    releases = next((found for level in levels if (found := [path for path in level if _holds_a_release(path)])), [])
    own = [path for path in releases if locale.fits(path.absolute().name)]
    if not own:
        raise locale.none_in((path.absolute().name for path in releases), where)
    if len(own) > 1:
        raise locale.several_in((path.relative_to(folder).as_posix() for path in own), where)
    return own[0]


def _holds_a_release(folder: Path) -> bool:
    return (folder / _CLIPS).is_dir() or any((folder / name).is_file() for name in SPLIT_TABLES)

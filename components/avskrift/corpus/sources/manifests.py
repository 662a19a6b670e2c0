"""A manifest: a CSV, TSV or JSON Lines file that names recordings wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avskrift.corpus.entries import LICENCE_UNKNOWN, Entry, tidy
from avskrift.corpus.sources.files import Spellings, file_fault
from avskrift.corpus.sources.tables import cut_recordings, read_rows
from avskrift.errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """See the module. Relative names are relative to the manifest's folder; rows may be parts of long recordings.

    Who writes a manifest says which files are read, so it may name any.
    """

    uri: str
    manifest: Path
    licence: str = LICENCE_UNKNOWN
    remote: bool = field(default=False, init=False)

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self.entries()

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        if not self.manifest.is_file():
            raise SourceError(f"source {self.uri!r}: there is no file {self.manifest}; check the path")
        folder, spellings = self.manifest.parent, Spellings()
        cut = cut_recordings(self.manifest, folder)
        for row in read_rows(self.manifest):
            path = folder / spellings.found(folder, row.recording)
            stated = f"{row.recording!r}, line {row.line} of {self.manifest.name},"
            fault = file_fault(path, named=stated, part=row.part is not None)
            yield row.entry(location=tidy(os.path.normpath(row.recording)), path=path, fault=fault, cut=cut)

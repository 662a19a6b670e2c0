"""A manifest: a CSV, TSV or JSON Lines file that names recordings wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avskrift.corpus.entries import Entry, read_nothing, read_recording, tidy
from avskrift.corpus.folder import LICENCE_UNKNOWN
from avskrift.corpus.tables import read_rows
from avskrift.errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """See the module. Relative names are relative to the manifest's folder."""

    uri: str
    manifest: Path
    max_seconds: float
    licence: str = LICENCE_UNKNOWN

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`."""
        if not self.manifest.is_file():
            raise SourceError(f"source {self.uri!r}: there is no file {self.manifest}; check the path")
        for row in read_rows(self.manifest):
            location = tidy(os.path.normpath(row.recording))
            path = self.manifest.parent / row.recording
            if not path.is_file():
                missing = f"{location!r}, line {row.line} of {self.manifest.name}, is not there"
                yield row.entry(location=location, read=read_nothing, missing=missing)
            elif row.text is None:
                yield row.entry(location=location, read=read_nothing, missing=f"{location!r}, line {row.line}, has no transcript")
            else:
                yield row.entry(location=location, read=partial(read_recording, path, self.max_seconds))

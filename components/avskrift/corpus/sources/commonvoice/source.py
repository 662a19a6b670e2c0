"""Mozilla Common Voice, one language of one release.

``commonvoice:PLACE``, where PLACE is a release tarball (a path, ``s3://BUCKET/KEY``, ``https://HOST/PATH``), the folder that
one was unpacked into, or ``mdc:ID``, a dataset of the Mozilla Data Collective. ``?locale=zh-TW`` at the end chooses where a
release has several locales of the language.

A tarball is read as a stream and never unpacked. Mozilla's bundler packs ``clips/`` before the tables that say what the
clips are. So listing such a tarball reads all of it, and leaves the tables in memory to the entries that are asked for next;
without them, the entries wait on disk until the tables have come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from avskrift.corpus.entries import Entry, Fault, oversized, recording_of
from avskrift.corpus.sources.commonvoice.folder import folder_entries, read_release
from avskrift.corpus.sources.commonvoice.index import ClipIndex, absence
from avskrift.corpus.sources.commonvoice.locale import Locale
from avskrift.corpus.sources.commonvoice.spool import Found
from avskrift.corpus.sources.commonvoice.tarball import ReleaseTarball
from avskrift.errors import SourceError
from avskrift.storage.data_collective import download
from avskrift.storage.door import local_path
from avskrift.storage.streams import ByteStream, open_stream, without_secrets

LICENCE = "CC0-1.0"

_SCHEME = "commonvoice:"
_COLLECTIVE = "mdc:"
_REMOTE = ("s3://", "https://", "http://")
_LOCALE = re.compile(r"[?&]locale=(?P<locale>[A-Za-z0-9_-]+)$")
_UNDERSTOOD = "give a release tarball (PATH.tar.gz, s3://BUCKET/KEY, https://HOST/PATH), the folder it was unpacked into, or mdc:ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonVoiceSource:
    """See the module. With ``validated_remainder``, validated clips that are in no split are train entries that give way.

    ``uri`` can be shown and stored: what may be a secret of a web address, its query, is taken out of it.

    Raises:
        SourceError: ``uri`` is not understood.
    """

    uri: str
    language: str
    validated_remainder: bool = False
    licence: str = field(default=LICENCE, init=False)
    _place: str = field(default="", init=False, repr=False)
    _locale: str = field(default="", init=False, repr=False)
    # The index that the last listing made of a tarball, by the version of its bytes; the next entries take it.
    _listed: dict[str, ClipIndex] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        place, locale = _parsed(self.uri)
        shown = without_secrets(place) + (f"?locale={locale}" if locale else "")
        for name, value in (("_place", place), ("_locale", locale), ("uri", _SCHEME + shown)):
            object.__setattr__(self, name, value)

    @property
    def remote(self) -> bool:
        """See :class:`avskrift.corpus.entries.Source`."""
        return self._place.startswith((_COLLECTIVE, *_REMOTE))

    def listing(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`. Of a tarball, no more is read than up to its last table."""
        place = self._found()
        if isinstance(place, Path) and place.is_dir():
            index = self._index()
            read_release(place, index, self._wanted(), self.uri)
            yield from index.entries(in_order=True)
            return
        with closing(open_stream(place)) as stream:
            index = self._listed.pop(stream.version, self._index())
            self._release(stream, index).read_tables()
        yield from index.entries()
        if stream.version:
            self._listed.clear()
            self._listed[stream.version] = index

    def entries(self) -> Iterator[Entry]:
        """See :class:`avskrift.corpus.entries.Source`: in the order of the tarball, or of the clips' names in a folder."""
        place = self._found()
        if isinstance(place, Path) and place.is_dir():
            index = self._index()
            yield from folder_entries(read_release(place, index, self._wanted(), self.uri), index)
            return
        with closing(open_stream(place)) as stream:
            index = self._listed.pop(stream.version, self._index())
            for found in self._release(stream, index).recordings():
                entry = _entry(index, found)
                if entry is not None:
                    yield entry
        for entry in index.entries():
            yield replace(entry, fault=absence(entry.location))

    def _found(self) -> Path | str:
        """Where the bytes are: a path on this machine, or a URI that can be streamed."""
        if self._place.startswith(_COLLECTIVE):
            return download(self._place.removeprefix(_COLLECTIVE))
        if self._place.startswith(_REMOTE):
            return self._place
        path = local_path(self._place) or Path(self._place)
        if not path.exists():
            raise SourceError(f"source {self.uri!r}: there is no file or folder {path}; {_UNDERSTOOD}")
        return path

    def _index(self) -> ClipIndex:
        return ClipIndex(validated_remainder=self.validated_remainder)

    def _wanted(self) -> Locale:
        return Locale(language=self.language, name=self._locale)

    def _release(self, stream: ByteStream, index: ClipIndex) -> ReleaseTarball:
        return ReleaseTarball(stream, index, self._wanted(), self.uri)


def _parsed(uri: str) -> tuple[str, str]:
    """The place and the locale that a source names."""
    place = uri.strip().removeprefix(_SCHEME)
    match = _LOCALE.search(place)
    locale = match["locale"] if match else ""
    place = place[: match.start()] if match else place
    if not place or ("://" in place and not place.startswith((*_REMOTE, "file://"))):
        raise SourceError(f"source {uri!r}: {_UNDERSTOOD}")
    return place, locale


def _entry(index: ClipIndex, found: Found) -> Entry | None:
    clip = found.member.name
    fault = _fault(found)
    return index.take(clip, fault=fault) if fault else index.take(clip, read=recording_of(found.data))


def _fault(found: Found) -> Fault | None:
    member = found.member
    if member.kind == "link":
        return Fault(code="outside", reason=f"{member.name!r} is a link; a release holds the recordings themselves")
    if member.kind != "file":
        return Fault(code="undecodable", reason=f"{member.name!r} is no regular file")
    return oversized(member.size)

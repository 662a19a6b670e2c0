"""A release of Common Voice as a tarball, read once from its first byte to its last."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from avskrift.corpus.entries import oversized
from avskrift.corpus.sources.commonvoice.index import TABLES, ClipIndex, check_complete, is_outside
from avskrift.corpus.sources.commonvoice.locale import Locale
from avskrift.corpus.sources.commonvoice.spool import ClipSpool, Found
from avskrift.errors import SourceError, StorageError
from avskrift.storage.streams import ByteStream
from avskrift.storage.tarball import BrokenTarballError, Member, NotATarballError, Tarball

LARGEST_TABLE = 2 << 30  # bytes; English, the largest, has some 700 MB of validated clips

_CLIPS = "clips/"
_INSIDE = re.compile(
    rf"(?P<folder>(?:.*/)?(?P<locale>[^/]+))/(?:(?P<table>{'|'.join(map(re.escape, sorted(TABLES)))})|clips/.*)", re.DOTALL
)
_MOST_LOCALES = 1000  # Common Voice has some 300; more are not remembered


class ReleaseTarball:
    """Fills ``index`` with the tables that it needs as they come by; ``where`` is how messages call the tarball.

    Raises:
        SourceError: in reading: no tarball, no release, no folder for the language, or a table that cannot be understood.
        StorageError: in reading: it ends too early, is damaged, or its stream breaks for good.
    """

    def __init__(self, stream: ByteStream, index: ClipIndex, locale: Locale, where: str) -> None:
        self._tarball = Tarball(stream)
        self._index = index
        self._locale = locale
        self._where = where
        self._folder = ""
        self._locales: set[str] = set()
        self._clips = 0

    def read_tables(self) -> None:
        """Read on until the index needs no more tables; clips are passed over."""
        with self._failures_told():
            for _ in self._clip_members():
                if not self._index.needed:
                    return
        self._check_complete()

    def recordings(self) -> Iterator[Found]:
        """The clips of the index in their order, each as soon as the index has its tables; until then they wait on disk."""
        with self._failures_told(), closing(ClipSpool()) as spool:
            for member in self._clip_members():
                if self._index.needed:
                    spool.put(self._found(member))
                    continue
                yield from spool.take_all()
                if member.name in self._index:
                    yield self._found(member)
            self._check_complete()
            yield from spool.take_all()

    def _clip_members(self) -> Iterator[Member]:
        """The members in the folder of clips, by their names in it; tables are read on the way."""
        prefix = ""
        for member in self._tarball:
            if not (prefix and member.name.startswith(prefix)):
                inside = _INSIDE.fullmatch(member.name)
                if inside is None or not self._is_wanted(inside["folder"], inside["locale"]):
                    continue
                prefix = f"{self._folder}/{_CLIPS}"
                if inside["table"]:
                    self._read_table(member, inside["table"])
                    continue
            name = member.name[len(prefix) :]
            if name and not is_outside(name):
                self._clips += 1
                yield replace(member, name=name)

    def _is_wanted(self, folder: str, locale: str) -> bool:
        if len(self._locales) < _MOST_LOCALES:
            self._locales.add(locale)
        if not self._locale.fits(locale):
            return False
        if self._folder and folder != self._folder:
            raise self._locale.several_in([self._folder, folder], self._where)
        self._folder = folder
        return True

    def _read_table(self, member: Member, name: str) -> None:
        if name not in self._index.needed:
            return
        shown = f"{self._where}: {member.name}"
        if member.kind != "file":
            raise SourceError(f"{shown}: is no regular file; give the tarball as Mozilla publishes it")
        if member.size > LARGEST_TABLE:
            raise SourceError(
                f"{shown}: has {member.size >> 20} MiB, over the limit of {LARGEST_TABLE >> 20} MiB; it is no table of Common Voice"
            )
        self._index.read_table(name, self._tarball.readline, shown=shown)

    def _found(self, member: Member) -> Found:
        wanted = member.kind == "file" and oversized(member.size) is None
        return Found(member=member, data=self._tarball.read() if wanted else b"")

    def _check_complete(self) -> None:
        if not self._folder:
            raise self._locale.none_in(self._locales, self._where)
        check_complete(self._index, f"{self._where}: {self._folder}")

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except NotATarballError as error:
            raise SourceError(f"{self._where}: is no tarball ({error}); give the .tar.gz as Mozilla publishes it") from error
        except BrokenTarballError as error:
            raise StorageError(f"{self._where}: {error}, after {self._clips} clips; download it again") from error

"""From what a user gives to sources of recordings."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from avskrift.corpus.dataset import DESCRIPTION_FILE, MAX_WEIGHT
from avskrift.corpus.entries import Source
from avskrift.corpus.sources.commonvoice.source import CommonVoiceSource
from avskrift.corpus.sources.demo import DEMO_SIZES, DemoSource
from avskrift.corpus.sources.folder import METADATA_FILE, RECORDING_SUFFIXES, FolderSource
from avskrift.corpus.sources.huggingface import HuggingFaceSource
from avskrift.corpus.sources.manifests import ManifestSource
from avskrift.corpus.sources.parquet import ParquetSource
from avskrift.corpus.sources.tables import TABLE_SUFFIXES
from avskrift.errors import SourceError

UNDERSTOOD = (
    "demo: (or demo:tiny), commonvoice:RELEASE (a tarball, its folder, s3://, https:// or mdc:ID), hf://ORG/NAME?config=..., "
    "a folder of recordings with transcripts (PATH or folder:PATH), a manifest (PATH.jsonl, .json, .csv, .tsv or manifest:PATH), "
    "or parquet:PATH; join several with ' + ', each with a weight before it if you like: 2*folder:calls"
)
_JOINED = re.compile(r"\s\+\s")
_WEIGHTED = re.compile(r"^(?P<weight>[0-9]*\.?[0-9]+)\s*\*(?P<uri>.*)$", re.DOTALL)
_LIKE_A_WEIGHT = re.compile(r"^[^:/]*\*|\*\s*[0-9.,]+$")
_WITH_PATH = re.compile(r"^(?P<before>(?:[0-9]*\.?[0-9]+\s*\*)?\s*(?:(?:commonvoice|folder|manifest|parquet):)?)(?P<path>.+)$", re.DOTALL)

_TARBALLS = (".tar.gz", ".tgz", ".tar")
_PARQUET = ".parquet"
_RELEASE_TABLES = frozenset({"train.tsv", "validated.tsv"})
_SPEAKER_COLUMN = b"client_id\t"  # the first of a release's tables, and of hardly any other
_FOLDERS_LOOKED_AT, _LOOKED_AT = 20, 1000  # of one depth, and names in each: a guess must not take long


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A source whose train clips count ``weight`` times."""

    source: Source
    weight: float


def parse_sources(sources: str, *, language: str, validated_remainder: bool = False) -> list[Weighted]:
    """The sources that ``A + 2*B + ...`` names.

    Raises:
        SourceError: one of them is not understood, given twice, or has a weight that cannot be used.
    """
    found = [_weighted(part.strip(), sources, language, validated_remainder) for part in _JOINED.split(sources)]
    uris = [weighted.source.uri for weighted in found]
    twice = next((uri for uri in uris if uris.count(uri) > 1), None)
    if twice is not None:
        raise SourceError(f"source {twice!r} is given twice; give it once, with a weight: 2*{twice}")
    return found


def absolute(sources: str) -> str:
    """The same sources with local paths spelled out, so that they mean the same in another working folder."""
    return " + ".join(_absolute(part.strip()) for part in _JOINED.split(sources))


def local_places(sources: str) -> list[Path]:
    """The paths on this machine that sources name, links followed; of a pattern, the folder that holds what it finds."""
    matches = [_WITH_PATH.match(part.strip()) for part in _JOINED.split(sources)]
    places = [Path(match["path"].removeprefix("file://").split("*")[0]).expanduser() for match in matches if match]
    return [place.resolve() for place in places if place.exists()]


def parse_source(uri: str, *, language: str, validated_remainder: bool = False) -> Source:
    """The source that ``uri`` names.

    Raises:
        SourceError: it names none; the message lists what is understood.
    """
    scheme, colon, rest = uri.strip().partition(":")
    if scheme == "demo":
        return _demo(uri, rest, language)
    if colon and scheme == "commonvoice":
        return CommonVoiceSource(uri=uri, language=language, validated_remainder=validated_remainder)
    if colon and scheme == "hf":
        return HuggingFaceSource(uri=uri)
    if colon and scheme == "parquet":
        return ParquetSource(uri=uri)
    if colon and scheme == "folder":
        return FolderSource(uri=uri, folder=Path(rest).expanduser())
    if colon and scheme == "manifest":
        return _manifest(uri, Path(rest).expanduser())
    return _path(uri)


def _weighted(part: str, whole: str, language: str, validated_remainder: bool) -> Weighted:
    if not part:
        raise SourceError(f"source {whole!r}: names nothing before or after a '+'; give {UNDERSTOOD}")
    match = _WEIGHTED.match(part)
    weight, uri = (float(match["weight"]), match["uri"].strip()) if match else (1.0, part)
    _check_weight_is_before(uri)
    if not (math.isfinite(weight) and 0 < weight <= MAX_WEIGHT):
        raise SourceError(f"source {part!r}: its weight is {weight:g}; give more than 0 and at most {MAX_WEIGHT:g}")
    return Weighted(source=parse_source(uri, language=language, validated_remainder=validated_remainder), weight=weight)


def _check_weight_is_before(uri: str) -> None:
    if not _LIKE_A_WEIGHT.search(uri) or uri.startswith("parquet:") or "://" in uri:
        return
    match = _WITH_PATH.match(uri)
    if match is None or not Path(match["path"]).expanduser().exists():
        raise SourceError(f"source {uri!r} is not understood; a weight is a plain number and stands before the source: 2*folder:calls")


def _absolute(part: str) -> str:
    match = _WITH_PATH.match(part)
    if match is None:
        return part
    path = Path(match["path"].removeprefix("file://")).expanduser()
    return f"{match['before']}{path.absolute()}" if path.exists() else part


def _path(uri: str) -> Source:
    path = Path(uri.strip().removeprefix("file://")).expanduser()
    if not uri.strip() or "://" in str(uri).removeprefix("file://"):
        raise SourceError(f"source {uri!r} is not understood; give {UNDERSTOOD}")
    _check_scheme(uri.strip().removeprefix("file://"), path)
    if path.is_dir():
        return FolderSource(uri=uri, folder=path)
    if path.is_file() or path.suffix.lower() in TABLE_SUFFIXES:
        return _manifest(uri, path)
    raise SourceError(f"source {uri!r}: there is no folder or file of that name; give {UNDERSTOOD}")


def _check_scheme(uri: str, path: Path) -> None:
    """Refuse a path that hardly can be recordings or a manifest, and say what it seems to be."""
    if path.is_dir():
        meant = _meant_by_folder(uri, path)
        otherwise = f"; if it holds recordings of your own, give folder:{uri}"
    else:
        meant = _meant_by_file(uri, path)
        otherwise = ""
    if meant:
        raise SourceError(f"source {uri!r}: did you mean {meant}?{otherwise}")


def _meant_by_folder(uri: str, folder: Path) -> str:
    """``uri`` with its scheme where ``folder`` seems to be a release of Common Voice or parquet files, else ""."""
    if (folder / METADATA_FILE).is_file():
        return ""
    parquet = False
    for names in _names_in(folder):
        if "clips" in names and names & _RELEASE_TABLES:
            return f"commonvoice:{uri}"
        suffixes = {Path(name).suffix.lower() for name in names}
        if suffixes & RECORDING_SUFFIXES:
            return ""
        parquet = parquet or DESCRIPTION_FILE in names or _PARQUET in suffixes
    return f"parquet:{uri}" if parquet else ""


def _meant_by_file(uri: str, file: Path) -> str:
    """``uri`` with its scheme where ``file`` seems to be a release of Common Voice, one of its tables, or parquet, else ""."""
    if not file.is_file():
        return ""
    if file.name.lower().endswith(_TARBALLS):
        return f"commonvoice:{uri}"
    if file.suffix.lower() == _PARQUET:
        return f"parquet:{uri}"
    if file.suffix.lower() == ".tsv" and (file.parent / "clips").is_dir() and _begins_as_a_release_table(file):
        return f"commonvoice:{uri.removesuffix(file.name).rstrip('/') or '.'}"
    return ""


def _begins_as_a_release_table(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SPEAKER_COLUMN)) == _SPEAKER_COLUMN
    except OSError:
        return False


def _names_in(folder: Path) -> Iterator[set[str]]:
    """Some of the names in a folder, in some of its folders, and in some of theirs; what cannot be listed is passed over."""
    level = [folder]
    for _ in range(3):
        below: list[Path] = []
        for each in islice(level, _FOLDERS_LOOKED_AT):
            try:
                with os.scandir(each) as listed:
                    found = list(islice(listed, _LOOKED_AT))
                below += [Path(file.path) for file in found if not file.name.startswith(".") and file.is_dir()]
            except OSError:
                continue
            yield {file.name for file in found}
        level = below


def _demo(uri: str, size: str, language: str) -> Source:
    if size not in DEMO_SIZES:
        raise SourceError(f"source {uri!r}: the demo corpus has no size {size!r}; give demo or demo:tiny")
    return DemoSource(uri=uri, size=DEMO_SIZES[size], language=language)


def _manifest(uri: str, path: Path) -> Source:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise SourceError(
            f"source {uri!r}: a manifest ends in {', '.join(TABLE_SUFFIXES)}; for recordings, give the folder that holds them"
        )
    return ManifestSource(uri=uri, manifest=path)

"""From the URI that a user gives to a source of recordings."""

from __future__ import annotations

from pathlib import Path

from avskrift.corpus.demo_source import DEMO_SIZES, DemoSource
from avskrift.corpus.entries import Source
from avskrift.corpus.folder import FolderSource
from avskrift.corpus.manifests import ManifestSource
from avskrift.corpus.tables import TABLE_SUFFIXES
from avskrift.errors import SourceError

UNDERSTOOD = (
    "demo (or demo:tiny), a folder of recordings with transcripts (PATH or folder:PATH), "
    "or a manifest (PATH.jsonl, .json, .csv, .tsv or manifest:PATH)"
)


def parse_source(uri: str, *, language: str, max_seconds: float) -> Source:
    """The source that ``uri`` names. Recordings of more than ``max_seconds`` will be refused when read.

    Raises:
        SourceError: it names none; the message lists what is understood.
    """
    scheme, colon, rest = uri.strip().partition(":")
    if scheme == "demo":
        return _demo(uri, rest, language)
    if scheme == "folder" and colon:
        return FolderSource(uri=uri, folder=Path(rest).expanduser(), max_seconds=max_seconds)
    if scheme == "manifest" and colon:
        return _manifest(uri, Path(rest).expanduser(), max_seconds)
    path = Path(uri.strip().removeprefix("file://")).expanduser()
    if not uri.strip() or "://" in str(uri).removeprefix("file://"):
        raise SourceError(f"source {uri!r} is not understood; give {UNDERSTOOD}")
    if path.is_dir():
        return FolderSource(uri=uri, folder=path, max_seconds=max_seconds)
    if path.is_file() or path.suffix.lower() in TABLE_SUFFIXES:
        return _manifest(uri, path, max_seconds)
    raise SourceError(f"source {uri!r}: there is no folder or file of that name; give {UNDERSTOOD}")


def _demo(uri: str, size: str, language: str) -> Source:
    if size not in DEMO_SIZES:
        raise SourceError(f"source {uri!r}: the demo corpus has no size {size!r}; give demo or demo:tiny")
    return DemoSource(uri=uri, size=DEMO_SIZES[size], language=language)


def _manifest(uri: str, path: Path, max_seconds: float) -> Source:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise SourceError(
            f"source {uri!r}: a manifest ends in {', '.join(TABLE_SUFFIXES)}; for recordings, give the folder that holds them"
        )
    return ManifestSource(uri=uri, manifest=path, max_seconds=max_seconds)

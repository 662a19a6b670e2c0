"""A part: the staged batches of one share of the entries, as a folder that one step writes and another merges.

``part.json`` says which share of what it is; beside it are the batches (see ``staging``).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avskrift.corpus.merge import Origin
from avskrift.corpus.staging import BATCH_SUFFIXES, Share, is_staged
from avskrift.errors import DatasetError
from avskrift.storage.atomic import write_json

DESCRIPTION_FILE = "part.json"
VERSION = 2  # of part.json and the batches beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """``part.json``. Parts belong together where all but ``share`` and ``batches`` is the same.

    ``entries_sha256`` is over all entries, of which each part took its share: parts of a source that changed meanwhile differ.
    """

    share: Share
    batches: list[str]
    entries_sha256: str
    origins: list[Origin]
    language: str
    normaliser: str
    speaker_salt_check: str
    version: int = VERSION

    def work(self) -> Part:
        """What is the same in every part of the same work."""
        return dataclasses.replace(self, share=Share(part=0, of=self.share.of), batches=[])


def write_part(folder: Path, part: Part, batches: Sequence[Path]) -> None:
    """Put ``batches``, given by their stems, into ``folder``, which exists, and describe them. They stay where they are, too."""
    for stem in batches:
        for suffix in BATCH_SUFFIXES:
            _link(stem.with_suffix(suffix), folder / f"{stem.name}{suffix}")
    write_json(folder / DESCRIPTION_FILE, dataclasses.asdict(part))


def read_parts(folders: Sequence[Path]) -> tuple[list[Path], list[Origin], Part]:
    """The batches of all parts, the sources that they came from, and what the parts have in common.

    Raises:
        DatasetError: a part is missing, is there twice, belongs to other work, or lacks a batch.
    """
    parts = [(folder, _read(folder)) for folder in folders]
    first_folder, first = parts[0]
    for folder, part in parts:
        if part.work() != first.work():
            raise DatasetError(
                f"{folder}: is a part of other work than {first_folder}, or the source changed between them; read all parts again"
            )
    given = sorted(part.share.part for _, part in parts)
    if given != list(range(first.share.of)):
        raise DatasetError(f"parts {given} are given, and 0 to {first.share.of - 1} are due; read the missing ones, and give each once")
    stems = [folder / name for folder, part in parts for name in part.batches]
    broken = next((stem for stem in stems if not is_staged(stem)), None)
    if broken is not None:
        raise DatasetError(f"{broken}: this batch is missing; read the part again")
    return stems, first.origins, first


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, copied where the file systems differ."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _read(folder: Path) -> Part:
    path = folder / DESCRIPTION_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        _check_version(raw)
        return Part(share=Share(**raw.pop("share")), origins=[Origin(**origin) for origin in raw.pop("origins")], **raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot be read as a part ({error}); read it again") from error


def _check_version(raw: dict[str, Any]) -> None:
    if raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']!r}, where {VERSION} is due")

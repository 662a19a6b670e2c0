"""sha256 manifests of folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avskrift.errors import IntegrityError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """What a manifest keeps of a file."""

    sha256: str
    size: int


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def digest_folder(folder: Path, *, without: Iterable[str] = ()) -> dict[str, FileDigest]:
    """Digest every file under ``folder``, by POSIX path relative to it, sorted; ``without`` names files to leave out."""
    left_out = frozenset(without)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: FileDigest(sha256=sha256_file(path), size=path.stat().st_size) for name, path in named.items() if name not in left_out}


def verify_folder(folder: Path, manifest: Mapping[str, FileDigest]) -> None:
    """Check every file that ``manifest`` names; sizes first, since they are free.

    Raises:
        IntegrityError: a file is missing, has another size, or another sha256.
    """
    for name, expected in manifest.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{folder}: {name} is missing; fetch or export the package again")
        if path.stat().st_size != expected.size:
            raise IntegrityError(f"{folder}: {name} has {path.stat().st_size} bytes, {expected.size} on record; fetch or export it again")
    for name, expected in manifest.items():
        actual = sha256_file(folder / name)
        if actual != expected.sha256:
            raise IntegrityError(f"{folder}: {name} has sha256 {actual}, {expected.sha256} on record; fetch or export it again")


def manifest_digest(manifest: Mapping[str, FileDigest]) -> str:
    """One sha256 for a whole manifest: the identity of a folder's bytes."""
    lines = {name: [entry.sha256, entry.size] for name, entry in sorted(manifest.items())}
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()

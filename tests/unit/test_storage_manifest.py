"""A manifest vouches for every byte of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from avskrift.errors import IntegrityError
from avskrift.storage.manifest import digest_folder, manifest_digest, sha256_file, verify_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    (package / "ct2").mkdir(parents=True)
    (package / "ct2" / "model.bin").write_bytes(bytes(range(256)) * 8192)
    (package / "README.md").write_text("å")
    (package / "model.json").write_text("{}")
    return package


def test_a_manifest_names_every_file_by_its_path_size_and_sha256(folder: Path) -> None:
    manifest = digest_folder(folder, without=["model.json"])
    assert list(manifest) == ["README.md", "ct2/model.bin"]
    weights = (folder / "ct2" / "model.bin").read_bytes()
    assert manifest["ct2/model.bin"].sha256 == hashlib.sha256(weights).hexdigest() == sha256_file(folder / "ct2" / "model.bin")
    assert manifest["ct2/model.bin"].size == len(weights)
    verify_folder(folder, manifest)


def test_a_missing_file_is_named(folder: Path) -> None:
    manifest = digest_folder(folder)
    (folder / "ct2" / "model.bin").unlink()
    with pytest.raises(IntegrityError, match=r"package: ct2/model\.bin is missing; fetch or export"):
        verify_folder(folder, manifest)


def test_a_file_cut_short_is_named_with_both_sizes(folder: Path) -> None:
    manifest = digest_folder(folder)
    weights = (folder / "ct2" / "model.bin").read_bytes()
    (folder / "ct2" / "model.bin").write_bytes(weights[:-1])
    with pytest.raises(IntegrityError, match=rf"ct2/model\.bin has {len(weights) - 1} bytes, {len(weights)} on record"):
        verify_folder(folder, manifest)


def test_sizes_are_checked_before_anything_is_read(folder: Path) -> None:
    manifest = digest_folder(folder)
    (folder / "README.md").write_text("b!")  # as long, and first in order
    (folder / "ct2" / "model.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"ct2/model\.bin has 0 bytes"):
        verify_folder(folder, manifest)


def test_the_identity_of_a_folder_hangs_on_names_and_bytes_not_on_order(folder: Path) -> None:
    manifest = digest_folder(folder)
    identity = manifest_digest(manifest)
    assert manifest_digest(dict(reversed(manifest.items()))) == identity
    (folder / "README.md").rename(folder / "readme.md")
    assert manifest_digest(digest_folder(folder)) != identity

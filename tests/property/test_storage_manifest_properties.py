"""No change to a folder's bytes escapes its manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.errors import IntegrityError
from avskrift.storage.manifest import digest_folder, manifest_digest, verify_folder

_NAMES = st.sampled_from(["model.json", "ct2/model.bin", "hf/å.json", "hf/deep/er/file"])
_FOLDERS = st.dictionaries(_NAMES, st.binary(min_size=1, max_size=300), min_size=1)


@settings(max_examples=60, deadline=None)
@given(files=_FOLDERS, data=st.data())
def test_any_flipped_bit_is_found_and_its_file_named(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    bit = data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        manifest = digest_folder(folder)
        verify_folder(folder, manifest)
        changed = bytearray(files[name])
        changed[at] ^= 1 << bit
        (folder / name).write_bytes(changed)
        with pytest.raises(IntegrityError, match=f"{name} has sha256"):
            verify_folder(folder, manifest)
        assert manifest_digest(digest_folder(folder)) != manifest_digest(manifest)

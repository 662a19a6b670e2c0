"""Artifacts are written whole."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest

from avskrift.storage.atomic import atomic_file, atomic_folder, sweep, write_json


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent, "a rename is atomic only within one file system"
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["report.txt"]


def test_a_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "package"
    for content in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (tmp_path / "package").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with atomic_folder(tmp_path / "package") as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in (tmp_path / "package").iterdir()] == ["new"]
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "package"]


def test_files_that_a_library_wrote_for_its_owner_alone_can_be_read_by_the_next_step(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "package") as temporary:
            (temporary / "hf").mkdir()
            (temporary / "hf" / "model.safetensors").touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "package" / "hf" / "model.safetensors").stat().st_mode) == 0o644


def test_a_private_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with atomic_folder(tmp_path / "package") as temporary:
            (temporary / "weights").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "package" / "weights").stat().st_mode) == 0o600


def test_json_is_written_for_people_in_utf_8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"språk": "svenska", "wer": 0.25})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"språk": "svenska", "wer": 0.25}
    assert "språk" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_is_never_written(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"wer": value})
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_sweeping_a_folder_that_is_not_there_does_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == []

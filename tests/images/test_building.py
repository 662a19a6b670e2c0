"""What ``images/build`` leaves beside the images: labels, the lock file, bills of materials, and the same files each time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from built_images import ROLES, ROOT, Built, images_build, images_lock
from containers import output, python
from docker_engine import Engine

from avskrift.steps.images import LOCK_VARIABLE, image

pytestmark = pytest.mark.images

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CONTENT = """
import hashlib, os, pathlib
known = hashlib.sha256()
for path in sorted(pathlib.Path("/opt/avskrift").rglob("*")):
    if path.is_file() and not path.is_symlink():
        status = path.stat()
        known.update(f"{path} {status.st_mode:o} {status.st_mtime_ns} ".encode() + path.read_bytes())
print(known.hexdigest())"""


@pytest.mark.parametrize("role", ROLES)
def test_labels_say_what_an_image_was_built_from(engine: Engine, built: Built, role: str) -> None:
    configuration = _inspected(engine, built.references[role])["Config"]
    named = {name.removeprefix("org.opencontainers.image."): value for name, value in configuration["Labels"].items()}
    assert named["title"] == f"avskrift/{role}"
    assert re.fullmatch(r"\d+\.\d+\.\d+", named["version"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", named["revision"])
    assert f"AVSKRIFT_GIT_REVISION={named['revision']}" in configuration["Env"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", named["created"])
    assert f"{named['base.name']}@{named['base.digest']}" == built.base


@pytest.mark.parametrize("role", ROLES)
def test_a_bill_of_materials_names_the_packages_of_python_and_of_debian(engine: Engine, built: Built, role: str) -> None:
    document = json.loads((built.sbom / f"{role}.cdx.json").read_text(encoding="utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    named = {component.get("purl", "").partition("?")[0] for component in document["components"]}
    debian = output(engine, built.references[role], "dpkg-query", "--show", "--showformat", "${Package} ").split()
    assert {purl.split("@")[0] for purl in named if purl.startswith("pkg:deb/")} == {f"pkg:deb/debian/{package}" for package in debian}
    assert {"python", "numpy", "kfp", "avskrift"} <= {component["name"] for component in document["components"]}


def test_a_pushed_image_is_named_by_digest_in_the_lock_and_by_what_compiles(
    engine: Engine, built: Built, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "images.lock.json"
    lock.write_text('{"ops": "kept"}', encoding="utf-8")
    said = images_build("data", "--push", registry, "--base", built.base, "--network", "host", "--lock", lock, "--sbom", tmp_path)
    locked = json.loads(lock.read_text(encoding="utf-8"))
    assert list(locked) == ["data", "ops"]
    assert locked["ops"] == "kept"
    assert re.fullmatch(re.escape(f"{registry}/avskrift/data@") + _DIGEST.pattern, locked["data"])
    assert "does not name train, serving yet" in said.stderr
    monkeypatch.setenv(LOCK_VARIABLE, str(lock))
    assert python(engine, image("data"), "import avskrift; print('found')") == "found"


def test_the_same_requirements_give_the_same_files(engine: Engine, built: Built) -> None:
    first = python(engine, built.references["data"], _CONTENT)
    again = "avskrift-again:under-test"
    seconds = engine.run("run", "--rm", built.references["data"], "stat", "--format", "%Y", _OUR_OWN).strip()
    arguments = ("--build-arg", f"BASE={built.base}", "--build-arg", f"SOURCE_DATE_EPOCH={seconds}")
    # Nothing of the first build is taken, but for what pip has downloaded.
    engine.run(
        "build", "--no-cache", "--network", "host", "--file", str(ROOT / "images/data/Dockerfile"), *arguments, "--tag", again, str(ROOT)
    )
    try:
        assert python(engine, again, _CONTENT) == first
    finally:
        engine.run("image", "rm", "--force", again)


def test_building_without_a_base_says_how_to_come_by_one(tmp_path: Path) -> None:
    if (ROOT / "images" / "base.lock").is_file():
        pytest.skip("images/base.lock is there")
    refused = images_build(check=False)
    assert refused.returncode == 2
    assert "python images/lock --base" in refused.stderr


def test_nothing_is_pushed_that_does_not_say_by_digest_what_it_stands_on() -> None:
    refused = images_build("--base", "python:3.11-slim-bookworm", "--push", "registry.example", check=False)
    assert refused.returncode == 2
    assert "by digest" in refused.stderr


def test_a_base_that_cannot_be_pulled_is_not_written_down(engine: Engine, registry: str, tmp_path: Path) -> None:
    lock = tmp_path / "base.lock"
    refused = images_lock("--base", f"{registry}/none:1", "--base-lock", lock, check=False)
    assert refused.returncode == 2
    assert "pull" in refused.stderr
    assert not lock.exists()


def test_where_no_engine_answers_the_command_says_so(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    refused = images_build("--base", "any", check=False)
    assert refused.returncode == 2
    assert "no Docker engine answers" in refused.stderr


_OUR_OWN = "/opt/avskrift/lib/python3.11/site-packages/avskrift/__init__.py"


def _inspected(engine: Engine, reference: str) -> dict[str, Any]:
    inspected: dict[str, Any] = json.loads(engine.run("image", "inspect", reference))[0]
    return inspected

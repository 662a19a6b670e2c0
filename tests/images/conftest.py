"""The four images, built once a session as ``make images`` builds them, on a base that the tests made."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "images"))

from built_images import ROLES, ROOT, Built, images_build, images_lock
from docker_engine import Engine
from engine_for_tests import base_image, running_engine, running_registry

_TAG = "under-test"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with running_engine() as running:
        yield running


@pytest.fixture(scope="session")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def base(engine: Engine, registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image by digest, as ``images/lock --base`` found it."""
    folder = tmp_path_factory.mktemp("base")
    reference, lock = base_image(engine, registry, folder), folder / "base.lock"
    images_lock("--base", reference, "--base-lock", lock)
    return lock.read_text(encoding="utf-8").strip()


@pytest.fixture(scope="session")
def readable_whisper(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Whisper where every user may read it; ``transformers`` lets only its owner read the weights that it saves."""
    folder = tmp_path_factory.mktemp("readable") / "whisper"
    shutil.copytree(tiny_whisper, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


@pytest.fixture(scope="session")
def built(engine: Engine, base: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All four; the training image with PyTorch's CPU build. ``AVSKRIFT_TEST_IMAGES`` names a tag that is built already.

    An engine that was there before keeps them, and builds upon them the next time.
    """
    if tag := os.environ.get("AVSKRIFT_TEST_IMAGES"):
        return Built(references={role: f"avskrift/{role}:{tag}" for role in ROLES}, sbom=ROOT / "images" / "sbom", base=base)
    sbom = tmp_path_factory.mktemp("sbom")
    images_build("--cpu", "--base", base, "--tag", _TAG, "--network", "host", "--sbom", sbom)
    references = {role: f"avskrift/{role}:{_TAG}" for role in ROLES}
    return Built(references=references, sbom=sbom, base=base)

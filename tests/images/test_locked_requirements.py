"""What the images are built from agrees with pyproject.toml, holds nothing that names a machine, and is well written. Needs no engine."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from built_images import ROLES, ROOT

_IMAGES = ROOT / "images"
_FILES = sorted(path.relative_to(_IMAGES).as_posix() for path in [*_IMAGES.glob("*/requirements*.txt"), _IMAGES / "tools.txt"])
_LINE = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)(?: ;.*)? \\")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def _pins(file: str) -> dict[str, str]:
    found = [_LINE.fullmatch(line) for line in (_IMAGES / file).read_text(encoding="utf-8").splitlines()]
    return {_canonical(pin["name"]): pin["version"] for pin in found if pin}


def _direct(group: str) -> dict[str, str]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"][group]]
    return {_canonical(re.split(r"[\[=]", line)[0]): line.partition("==")[2] for line in lines if not line.startswith("avskrift[")}


def _role(file: str) -> str:
    return file.partition("/")[0]


@pytest.mark.parametrize("file", [file for file in _FILES if "/" in file])
def test_an_image_is_locked_to_what_pyproject_asks_for_its_role(file: str) -> None:
    pins = _pins(file)
    wanted = _direct(_role(file)) | {"kfp": _direct("pipelines")["kfp"]}
    assert {name: pins.get(name, "").partition("+")[0] for name in wanted} == wanted, "run `make lock-images`"
    assert "typing-extensions" in pins


@pytest.mark.parametrize("file", [file for file in _FILES if "/" in file])
def test_an_image_has_the_versions_that_the_tests_pass_with(file: str) -> None:
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line)
    tested = {_canonical(name): version for name, version in constraints.items()}
    other = {name: version for name, version in _pins(file).items() if name in tested and tested[name] != version.partition("+")[0]}
    assert other == {}, "run `make lock-images`"


@pytest.mark.parametrize("file", _FILES)
def test_every_line_is_a_pin_or_its_hash(file: str) -> None:
    lines = [line for line in (_IMAGES / file).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not _LINE.fullmatch(line) and not _HASH.fullmatch(line)] == []
    assert all(_HASH.fullmatch(after) for line, after in itertools.pairwise(lines) if _LINE.fullmatch(line))


def test_only_train_has_cuda_and_data_has_no_torch() -> None:
    torch = {file: _pins(file).get("torch", "") for file in _FILES if "/" in file}
    assert {file for file, version in torch.items() if version and "+cpu" not in version} == {"train/requirements.txt"}
    assert {file for file in _FILES if any(name.startswith("nvidia-") for name in _pins(file))} == {"train/requirements.txt"}
    assert (torch["data/requirements.txt"], torch["ops/requirements.txt"]) == ("", "")


@pytest.mark.parametrize("role", ROLES)
def test_hadolint_has_nothing_to_say(role: str) -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    said = subprocess.run([hadolint, f"images/{role}/Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_stages_that_the_images_share_are_written_alike() -> None:
    """So that they are built once and their layers are stored once."""

    def shared(role: str) -> list[str]:
        text = (_IMAGES / role / "Dockerfile").read_text(encoding="utf-8")
        parts = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]
        return [part for part in parts if re.match(r"FROM \S+ AS (base|tools|code)\n", part)] + parts[-1].splitlines()[:2]

    assert all(shared(role) == shared(ROLES[0]) for role in ROLES)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

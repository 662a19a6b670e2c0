"""How ``images/build`` and ``images/lock`` are run, and what they leave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROLES = ("data", "train", "serving", "ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What ``images/build`` left: a reference for each role, bills of materials, and what it was built on."""

    references: dict[str, str]
    sbom: Path
    base: str


def images_build(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``images/build`` as a person would."""
    return _script("build", arguments, check=check)


def images_lock(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``images/lock`` as a person would."""
    return _script("lock", arguments, check=check)


def _script(name: str, arguments: Sequence[object], *, check: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "images" / name), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 or not check, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended

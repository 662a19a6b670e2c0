"""The names of a job's checkpoints, in a folder as in an object store."""

from __future__ import annotations

import json
import re
from pathlib import Path

SUFFIX, STATE = ".safetensors", "state.json"
NAME = re.compile(r"^(?:step|best)-(?P<step>\d{8})(?:\.safetensors)?$")


def best_name(step: int) -> str:
    return f"best-{step:08d}{SUFFIX}"


def named_best(checkpoint: Path) -> tuple[str, str]:
    """Name and sha256 of the best weights that a checkpoint names; empty if there are none, or it cannot be read."""
    try:
        progress = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["progress"]
        return ("", "") if progress["best_wer"] is None else (best_name(progress["best_step"]), progress["best_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def top(name: str) -> str:
    return name.partition("/")[0]


def step_of(name: str) -> int:
    return int(name.split("-")[1][:8])

"""The record of local runs: ``runs/ID/run.json`` in the state folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

STATE_FILE = "run.json"


def latest_run(state_folder: Path) -> tuple[Path, str] | None:
    """The newest run's folder and state, or None."""
    for folder in sorted((state_folder / "runs").glob("*"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return folder, str(json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["state"])
    return None

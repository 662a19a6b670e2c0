"""Runs of this machine, as their folders ``runs/ID`` in the state folder tell them."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from avskrift.errors import AvskriftError
from avskrift.evaluation.decision_file import read_decision
from avskrift.evaluation.result_file import read_evaluation
from avskrift_pipelines.runs import STATE_FILE

_NAME_FORMAT = "%Y%m%d-%H%M%S"  # how a run's folder begins
_NAME_LENGTH = len("20261122-120000")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRunRecord:
    """A run of this machine. Rates are fractions, times seconds since 1970; what the run has not come to is None or empty.

    ``name`` is the folder's, which is the pipeline run's id in MLflow too.
    """

    name: str
    folder: Path
    state: str
    started: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    wer: float | None = None
    wer_interval: tuple[float, float] | None = None
    gate: str = ""


def local_runs(state_folder: Path, *, limit: int | None = None) -> list[LocalRunRecord]:
    """The runs in the state folder, newest first. One whose record cannot be read is left out."""
    found: list[LocalRunRecord] = []
    for folder in sorted((state_folder / "runs").glob("*"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_read(folder))
        if len(found) == limit:
            break
    return found


def _read(folder: Path) -> LocalRunRecord:
    state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    wer, interval = _measured(folder)
    return LocalRunRecord(
        name=folder.name,
        folder=folder,
        state=_state(state),
        started=_started(folder),
        parameters=dict(state.get("parameters", {})),
        wer=wer,
        wer_interval=interval,
        gate=_judged(folder),
    )


def _state(record: Mapping[str, Any]) -> str:
    """A run whose process is gone was killed, though nobody was there to write it down."""
    state = str(record["state"])
    return "killed" if state == "running" and not psutil.pid_exists(int(record.get("pid", 0))) else state


def _started(folder: Path) -> float | None:
    try:
        return time.mktime(time.strptime(folder.name[:_NAME_LENGTH], _NAME_FORMAT))
    except ValueError:
        return None


def _measured(folder: Path) -> tuple[float | None, tuple[float, float] | None]:
    for artifact in sorted((folder / "pipeline").glob("**/evaluate/evaluation")):
        with contextlib.suppress(AvskriftError, OSError):
            wer = read_evaluation(artifact).candidate.wer
            if all(map(math.isfinite, (wer.value, wer.low, wer.high))):
                return wer.value, (wer.low, wer.high)
    return None, None


def _judged(folder: Path) -> str:
    for artifact in sorted((folder / "pipeline").glob("**/gate/decision")):
        with contextlib.suppress(AvskriftError, OSError):
            return str(read_decision(artifact).verdict)
    return ""

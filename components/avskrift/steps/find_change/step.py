"""find_change: whether a dataset is another one than the model that serves was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avskrift.logs import Log

_log = Log("find_change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Two datasets' fingerprints; ``trained_on`` is "" where no model serves, or nothing is on record."""

    fingerprint: str
    trained_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``verdict`` is text, since Kubeflow compares booleans as text."""

    verdict: Literal["changed", "unchanged"]


def run(config: Config) -> Result:
    """Compare them."""
    result = Result(verdict="unchanged" if config.fingerprint == config.trained_on else "changed")
    _log.info("dataset.compared", verdict=result.verdict)
    return result

"""Where figures go while training runs, as the loop sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

import psutil

_SYSTEM_SECONDS = 15.0


class Tracker(Protocol):
    """Takes the figures of a training step. It must not slow training down and must never be what stops it."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of ``step``. Never blocks, never raises; those that are not finite are left out."""

    def close(self) -> None:
        """Take no more, and do for the last figures what can be done in seconds. Never raises."""


class System:
    """What the machine gives to the training, now and then, under the names that MLflow has for such figures."""

    def __init__(self) -> None:
        self._process, self._asked = psutil.Process(), time.monotonic()
        psutil.cpu_percent()  # measures from one call to the next

    def figures(self) -> dict[str, float]:
        """CPU use of the machine in per cent and this process's memory in GB; nothing where it was asked a moment ago."""
        if time.monotonic() - self._asked < _SYSTEM_SECONDS:
            return {}
        self._asked = time.monotonic()
        return {"system/cpu_percent": psutil.cpu_percent(), "system/memory_gb": self._process.memory_info().rss / 1e9}


class NoTracker:
    """For a training that nobody looks on."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """There is nothing to end."""

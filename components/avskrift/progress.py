"""Progress of long work: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from tqdm import tqdm

from avskrift import logs
from avskrift.errors import UsageError

EVENT = "progress"
INTERVAL_VARIABLE = "AVSKRIFT_PROGRESS_SECONDS"  # seconds between log lines; a runner that draws its own bar asks for more
_INTERVAL_SECONDS = "15"
_log = logs.Log("progress")


class Progress:
    """Counts units of work; see :func:`progress`."""

    def __init__(self, label: str, total: int | None, done: int, unit: str, *, shown: bool = True) -> None:
        self._label, self._total, self._done, self._unit = label, total, done, unit
        self._first, self._started, self._logged = done, time.monotonic(), time.monotonic()
        self._interval = _interval_seconds()
        self._bar = tqdm(total=total, initial=done, desc=label, unit=unit) if shown and sys.stderr.isatty() else None
        self._logs = shown and self._bar is None

    def advance(self, count: int = 1, figures: Mapping[str, float] = MappingProxyType({})) -> None:
        """``count`` units more, with figures to show beside them."""
        self._done += count
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            self._bar.update(count)
        elif self._logs and (time.monotonic() - self._logged >= self._interval or self._done == self._total):
            self._logged = time.monotonic()
            if self._total is not None:
                figures = {"of": self._total, "seconds_left": self._seconds_left(self._total), **figures}
            _log.info(EVENT, what=self._label, done=self._done, unit=self._unit, **figures)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _seconds_left(self, total: int) -> int:
        rate = (self._done - self._first) / max(time.monotonic() - self._started, 1e-9)
        return round((total - self._done) / rate) if rate else -1


def _interval_seconds() -> float:
    given = os.environ.get(INTERVAL_VARIABLE) or _INTERVAL_SECONDS
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"{INTERVAL_VARIABLE} is {given!r}; give seconds, like {_INTERVAL_SECONDS}") from error


@contextmanager
def progress(label: str, *, total: int | None, done: int = 0, unit: str = "clips", shown: bool = True) -> Iterator[Progress]:
    """Show progress over ``total`` units, None where that is not known, of which ``done`` are behind us; nothing unless ``shown``.

    Raises:
        UsageError: ``AVSKRIFT_PROGRESS_SECONDS`` is not a number.
    """
    counted = Progress(label, total, done, unit, shown=shown)
    try:
        yield counted
    finally:
        counted.close()

"""Ctrl-C and SIGTERM for a run: the step is stopped, and the pipeline's exit handler still closes the record."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

import psutil

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While open, the first signal is passed on to the running step and remembered; a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        for process in psutil.Process().children(recursive=True):
            try:
                process.send_signal(signal.SIGINT)
            except psutil.Error:  # it ended meanwhile
                continue

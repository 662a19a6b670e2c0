"""Ctrl-C and SIGTERM around the moment at which a deployment is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from avskrift.logs import Log

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = Log("deploy")


class StopSignals:
    """Signals to stop, which come too late once champion has moved.

    Inside ``with StopSignals() as signals`` they stop the work as ever, until the body of ``with signals.held_back()`` begins. Once that
    body is done they have no effect for as long as the outer one lasts: what was interrupted there would go back to the version before,
    and champion would not. If it fails they are heard again.

    Python hands signals to the main thread alone, so in any other this does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {}
        self._came = False

    def __enter__(self) -> StopSignals:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listen()
        if self._came and error is None:
            _log.warning("deploy.stopped_too_late", note="champion had moved, so the deployment was finished")

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Until the end of the outer body, or until this one fails."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._note)
        try:
            yield
        except BaseException:
            self._listen()
            raise

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self._came = True

    def _listen(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            if handler is not None:  # None: it was not Python that had set it
                signal.signal(number, handler)

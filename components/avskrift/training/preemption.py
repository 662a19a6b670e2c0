"""SIGTERM while training: finish the step, save, and leave with an exit code that says try again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come since. The handler of before is back after the body."""
    told = threading.Event()

    def tell(_signal: int, _frame: FrameType | None) -> None:
        told.set()

    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread alone
        yield told.is_set
        return
    before = signal.signal(signal.SIGTERM, tell)
    try:
        yield told.is_set
    finally:
        signal.signal(signal.SIGTERM, before)

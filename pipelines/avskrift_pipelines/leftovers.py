"""Puts back what ``kfp.local`` swaps in this process.

While a task runs, kfp replaces ``builtins.print`` with one that indents, and the root logger's handlers with its own. Each task
keeps what it found and restores that; but the tasks of a ``ParallelFor`` run in threads, and the one that ends last has often
found the other's.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Whatever runs inside, afterwards ``print`` and the root logger are as they were."""
    root = logging.getLogger()
    before, level, handlers = builtins.print, root.level, root.handlers[:]
    try:
        yield
    finally:
        builtins.print = before
        root.setLevel(level)
        root.handlers[:] = handlers

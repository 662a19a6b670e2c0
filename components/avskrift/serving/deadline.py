"""When the request that is being answered must have its answer. It counts from the request's arrival, however slowly its body comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_Result = TypeVar("_Result")
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)  # of the request that the running task is about


@contextmanager
def within(seconds: float) -> Iterator[float]:
    """A request that arrives now; gives its deadline by time.monotonic(), which tasks that are started meanwhile have too."""
    deadline = time.monotonic() + seconds
    token = _deadline.set(deadline)
    try:
        yield deadline
    finally:
        _deadline.reset(token)


def of_this_request(seconds: float) -> float:
    """The deadline that :func:`within` set; ``seconds`` from now where nothing did, as in gRPC, which hands over whole messages."""
    deadline = _deadline.get()
    return time.monotonic() + seconds if deadline is None else deadline


async def awaited(work: Awaitable[_Result], deadline: float) -> _Result:
    """What ``work`` gives.

    Raises:
        TimeoutError: the deadline passed; ``work`` was cancelled.
    """
    async with asyncio.timeout(deadline - time.monotonic()):
        return await work

"""The one thread that transcribes, so that the event loop goes on answering health checks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class TranscriptionThread:
    """Runs work one piece at a time, first come first served.

    One thread, since the engine spreads each transcription over all its cores. It is a daemon and no part of asyncio's
    executor, which would hold a stopping process until the last transcription ended.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="transcription").start()

    async def run(self, work: Callable[[], _T]) -> _T:
        """``work()``'s result or exception. Cancelled before its turn, it is never run."""
        future: Future[_T] = Future()
        self._queue.put((future, work))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            self._do(*self._queue.get())

    @staticmethod
    def _do(future: Future[Any], work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # it belongs to whoever waits for the future
            future.set_exception(error)
        else:
            future.set_result(result)

"""The same work on many things at once, which Ctrl-C stops at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from avskrift.errors import AvskriftError

T = TypeVar("T")
R = TypeVar("R")


def one_by_one(work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | AvskriftError]]:
    """Each item with its result or its error, in order, in the calling thread."""
    for item in items:
        yield item, _outcome(work, item)


def in_threads(work: Callable[[T], R], items: Sequence[T], *, threads: int) -> Iterator[tuple[T, R | AvskriftError]]:
    """Each item with its result or its error, in the order in which they are done.

    The threads are daemons: nobody waits for the answers that they wait for, once the iterator is left.

    Raises:
        Exception: one that is a bug and no AvskriftError.
    """
    todo: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[T, R | Exception]] = SimpleQueue()
    left = threading.Event()
    for item in items:
        todo.put(item)

    def run() -> None:
        while not left.is_set():
            try:
                item = todo.get_nowait()
            except Empty:
                return
            try:
                done.put((item, work(item)))
            except Exception as error:  # it belongs to whoever reads
                done.put((item, error))

    for _ in range(min(threads, len(items))):
        threading.Thread(target=run, daemon=True, name="asking").start()
    try:
        for _ in items:
            item, outcome = done.get()
            if isinstance(outcome, Exception) and not isinstance(outcome, AvskriftError):
                raise outcome
            yield item, outcome
    finally:
        left.set()


def _outcome(work: Callable[[T], R], item: T) -> R | AvskriftError:
    try:
        return work(item)
    except AvskriftError as error:
        return error

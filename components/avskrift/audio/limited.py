"""Many tasks in limited child processes: a child that dies, by a fault of the decoder or by a limit, takes nothing with it.

A new child does the task again without the step at which the first one died.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Generic

from avskrift.audio.limited_child import NOT_BEGUN, Child, Died, Failed, Function, Limits, R, T, ended_early


class Children(Generic[T, R]):
    """Up to ``count`` processes that call ``function``, a picklable function; they are started when there is work for them."""

    def __init__(self, function: Function[T, R], *, count: int, limits: Limits | None = None) -> None:
        self._function, self._count, self._limits = function, count, limits or Limits()
        self._children: dict[Child[T, R], _Work[T] | None] = {}  # each with what it was given, None where it is idle

    def __enter__(self) -> Children[T, R]:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        for child in self._children:
            child.kill()
        self._children.clear()

    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Each task with its result, in the order in which they are done. Tasks are taken as children become free, one ahead.

        Raises:
            Exception: what the function raised in the child.
            StepFailedError: a child died before it began its first step.
        """
        queue: deque[_Work[T]] = deque()
        remaining = iter(tasks)
        while True:
            # The next task is fetched while the children are at work, and is at hand when one is done.
            while (queue or _fetch(remaining, queue)) and (child := self._idle()):
                work = queue.popleft()
                self._children[child] = work
                child.give(work.task, work.left_out)
            busy = {child: work for child, work in self._children.items() if work}
            if not busy:
                return
            for child in _ready(busy):
                self._children[child] = None
                outcome = child.answer()
                if isinstance(outcome, Died):
                    del self._children[child]
                    queue.appendleft(_without(busy[child], outcome))
                elif isinstance(outcome, Failed):
                    raise outcome.error
                else:
                    yield busy[child].task, outcome.result

    def _idle(self) -> Child[T, R] | None:
        for child, work in self._children.items():
            if not work:
                return child
        if len(self._children) >= self._count:
            return None
        child = Child(self._function, self._limits)
        self._children[child] = None
        return child


@dataclass(slots=True)
class _Work(Generic[T]):
    """``killed_at`` are the steps at which somebody else's signal ended a child; once may be the machine's fault."""

    task: T
    left_out: dict[int, str] = field(default_factory=dict)
    killed_at: frozenset[int] = frozenset()


def _ready(children: Iterable[Child[T, R]]) -> list[Child[T, R]]:
    """The children that have an answer or have ended; waits for the first."""
    ready = set(map(id, wait([child.connection for child in children])))
    return [child for child in children if id(child.connection) in ready]


def _fetch(tasks: Iterator[T], queue: deque[_Work[T]]) -> bool:
    """Put the next task into the queue, if there is one."""
    for task in tasks:
        queue.append(_Work(task))
        return True
    return False


def _without(work: _Work[T], died: Died) -> _Work[T]:
    """The work again: as it was after a first signal from outside, else without the step at which the child died."""
    if died.step in work.left_out or (died.step == NOT_BEGUN and (not died.by_signal_from_outside or NOT_BEGUN in work.killed_at)):
        raise ended_early(died)
    if died.by_signal_from_outside and died.step not in work.killed_at:
        return _Work(work.task, work.left_out, work.killed_at | {died.step})
    return _Work(work.task, work.left_out | {died.step: died.reason}, work.killed_at)

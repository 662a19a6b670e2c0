"""Work in processes of its own, with a limit on memory and on CPU time: what a decoder does to hostile bytes stays there.

A task is a list of steps (recordings, say). A child that dies, by a fault of the decoder or by a limit, takes nothing
with it: a new one does the task again without the step at which the first one died.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, TypeVar

from avskrift.errors import StepFailedError

T = TypeVar("T")
R = TypeVar("R")
Note = Callable[[int], None]  # called with the number of the step that begins
Function = Callable[[T, Note, Mapping[int, str]], R]  # the task; the note; steps to leave out, with the reason of each

_NOT_BEGUN = -1
_COUNTER = ctypes.c_int64
_PAGE_BYTES = mmap.PAGESIZE
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # A clip's samples fit into memory that the allocator keeps; given back and asked for again, each clip costs 300 page faults.
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``memory_bytes`` are over what a child holds when it has nothing to do; ``cpu_seconds`` are for one step."""

    memory_bytes: int = 384 << 20
    cpu_seconds: int = 20


class Children(Generic[T, R]):
    """Up to ``count`` processes that call ``function``, a picklable function; they are started when there is work for them."""

    def __init__(self, function: Function[T, R], *, count: int, limits: Limits | None = None) -> None:
        self._function, self._count, self._limits = function, count, limits or Limits()
        self._children: list[_Child[T]] = []

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
                child.give(queue.popleft())
            busy = [child for child in self._children if child.work]
            if not busy:
                return
            for child in _ready(busy):
                work, outcome = child.outcome()
                if isinstance(outcome, _Died):
                    self._children.remove(child)
                    queue.appendleft(_without(work, outcome))
                elif outcome.error is not None:
                    raise outcome.error
                else:
                    yield work.task, outcome.result

    def _idle(self) -> _Child[T] | None:
        for child in self._children:
            if not child.work:
                return child
        if len(self._children) >= self._count:
            return None
        self._children.append(_Child(self._function, self._limits))
        return self._children[-1]


@dataclass(slots=True)
class _Work(Generic[T]):
    """``killed_at`` are the steps at which somebody else's signal ended a child; once may be the machine's fault."""

    task: T
    left_out: dict[int, str] = field(default_factory=dict)
    killed_at: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Done:
    result: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _Died:
    step: int
    reason: str
    by_signal_from_outside: bool


class _Child(Generic[T]):
    """The parent's end of one child."""

    def __init__(self, function: Function[T, Any], limits: Limits) -> None:
        self._limits = limits
        self._counter_file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the child
        self._counter_file.truncate(_PAGE_BYTES)
        self._page = mmap.mmap(self._counter_file.fileno(), _PAGE_BYTES)
        self._counter = _COUNTER.from_buffer(self._page)
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), self._counter_file.fileno())
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    __spec__.name,  # -P: nothing in the working folder is a module of ours
                    *map(str, descriptors),
                ],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if not os.environ.get("AVSKRIFT_DEBUG") else None,  # decoders write what they think there
                env=os.environ | _ENVIRONMENT,
            )
        self.connection = Connection(ours.detach())
        self.work: _Work[T] | None = None
        self._send(sys.path)  # first, since the function is looked up there
        self._send((function, limits))

    def give(self, work: _Work[T]) -> None:
        self.work = work
        self._counter.value = _NOT_BEGUN
        self._send((work.task, work.left_out))

    def outcome(self) -> tuple[_Work[T], _Done | _Died]:
        """The work that was given, and what became of it; called once there is an answer to read or the child has ended."""
        work, self.work = self.work, None
        if work is None:
            raise LookupError("this child was given nothing to do")
        try:
            return work, _Done(*self.connection.recv())
        except (EOFError, ConnectionError):
            self._process.wait()
            code = self._process.returncode
            died = _Died(int(self._counter.value), self._cause(code), -code in _FROM_OUTSIDE)
            self.kill()
            return work, died

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.connection.close()
        del self._counter
        self._page.close()
        self._counter_file.close()

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionError):
            return  # it died; the next look at the connection says so

    def _cause(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            return f"decoding it took more than {self._limits.cpu_seconds} s of CPU time, and was stopped"
        if -code in _FROM_OUTSIDE:
            return "decoding it was killed twice, as the system does where memory runs out"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"the decoder crashed on it ({name})"
        return f"decoding it ended without an answer (exit code {code})"


def _ready(children: Iterable[_Child[T]]) -> list[_Child[T]]:
    """The children that have an answer or have ended; waits for the first."""
    by_connection = {child.connection: child for child in children}
    return [by_connection[connection] for connection in wait(list(by_connection)) if isinstance(connection, Connection)]


def _fetch(tasks: Iterator[T], queue: deque[_Work[T]]) -> bool:
    """Put the next task into the queue, if there is one."""
    for task in tasks:
        queue.append(_Work(task))
        return True
    return False


def _without(work: _Work[T], died: _Died) -> _Work[T]:
    """The work again: as it was after a first signal from outside, else without the step at which the child died."""
    if died.step in work.left_out or (died.step == _NOT_BEGUN and (not died.by_signal_from_outside or _NOT_BEGUN in work.killed_at)):
        raise StepFailedError(f"a decoding process ended before it read anything: {died.reason}; run with AVSKRIFT_DEBUG=1 to see why")
    if died.by_signal_from_outside and died.step not in work.killed_at:
        return _Work(work.task, work.left_out, work.killed_at | {died.step})
    return _Work(work.task, work.left_out | {died.step: died.reason}, work.killed_at)


def _serve(connection: Connection, counter: _COUNTER) -> None:
    """A child's life: a function and its limits, then task after task until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    parent = os.getppid()
    sys.path[:] = connection.recv()
    function, limits = connection.recv()
    _limit_memory(limits)

    def note(step: int) -> None:
        if os.getppid() != parent:
            os._exit(1)
        counter.value = step
        _limit_cpu(limits)

    while True:
        try:
            task, left_out = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Exception | None] = (function(task, note, left_out), None)
        except Exception as error:
            answer = (None, _able_to_travel(error))
        del task, left_out  # before the next ones come: both would not fit
        connection.send(answer)


def _able_to_travel(error: Exception) -> Exception:
    """The error with its traceback; where it cannot be pickled, what it said."""
    said = "".join(traceback.format_exception(error))
    error.add_note(said)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        stand_in = StepFailedError(f"a decoding process failed with {type(error).__name__}: {error}; this is a bug, see the traceback")
        stand_in.add_note(said)
        return stand_in
    return error


def _limit_memory(limits: Limits) -> None:
    """Private memory, not address space: libraries reserve far more of that than they use. Linux alone counts it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        held = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
    except (OSError, StopIteration):
        return
    _set_limit(resource.RLIMIT_DATA, held + limits.memory_bytes)
    _set_limit(resource.RLIMIT_CORE, 0)


def _limit_cpu(limits: Limits) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + limits.cpu_seconds + 1)


def _set_limit(which: int, soft: int) -> None:
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _main() -> None:
    descriptor, counter = (int(argument) for argument in sys.argv[1:])
    page = mmap.mmap(counter, _PAGE_BYTES)
    _serve(Connection(descriptor), _COUNTER.from_buffer(page))


if __name__ == "__main__":
    _main()

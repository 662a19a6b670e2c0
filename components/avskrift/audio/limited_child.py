"""One process of its own for work on hostile bytes, with a limit on memory and on CPU time: what a decoder does stays there.

The parent's end is :class:`Child`; ``python -m avskrift.audio.limited_child`` is what it starts. A task is a list of steps
(recordings, say), and the child notes in shared memory which step it begins, so that a death can be laid to it.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Generic, TypeVar

from avskrift.errors import StepFailedError

T = TypeVar("T")
R = TypeVar("R")
Note = Callable[[int], None]  # called with the number of the step that begins
Function = Callable[[T, Note, Mapping[int, str]], R]  # the task; the note; steps to leave out, with the reason of each

NOT_BEGUN = -1  # the step of a child that had noted none
_COUNTER = ctypes.c_int64
_PAGE_BYTES = mmap.PAGESIZE
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NOTHING: Mapping[int, str] = MappingProxyType({})
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


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """What the function returned."""

    result: R


@dataclass(frozen=True, slots=True)
class Failed:
    """What the function raised, with the child's traceback as a note; the child goes on."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Died:
    """The child is no more. ``step`` is the last that it noted, ``reason`` a clause for people.

    ``by_signal_from_outside``: somebody else's signal ended it, which may be the machine's fault and not the step's.
    """

    step: int
    reason: str
    by_signal_from_outside: bool


class Child(Generic[T, R]):
    """The parent's end of a process that calls ``function``, a picklable function, for one task after the other.

    For one thread, but for :meth:`stop`. The child dies with the thread that made it.
    ``descriptors`` are open files that the child finds under the same numbers.
    """

    def __init__(self, function: Function[T, R], limits: Limits, *, descriptors: Sequence[int] = ()) -> None:
        self._limits = limits
        self._counter_file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the child
        self._counter_file.truncate(_PAGE_BYTES)
        self._page = mmap.mmap(self._counter_file.fileno(), _PAGE_BYTES)
        self._counter = _COUNTER.from_buffer(self._page)
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = (theirs.fileno(), self._counter_file.fileno())
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    __spec__.name,  # -P: nothing in the working folder is a module of ours
                    *map(str, arguments),
                ],
                pass_fds=(*arguments, *descriptors),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if not os.environ.get("AVSKRIFT_DEBUG") else None,  # decoders write what they think there
                env=os.environ | _ENVIRONMENT,
            )
        self.connection = Connection(ours.detach())  # to wait for an answer by; it is read by answer() alone
        self._send(sys.path)  # first, since the function is looked up there
        self._send((function, limits))

    def give(self, task: T, left_out: Mapping[int, str] = _NOTHING) -> None:
        """Have the function called with a task. One is given at a time; :meth:`answer` ends it."""
        self._counter.value = NOT_BEGUN
        self._send((task, dict(left_out)))

    def has_answer(self, *, within_s: float) -> bool:
        """Whether the answer to what was given is there, or the child has ended, before ``within_s`` are over."""
        return self.connection.poll(within_s)

    def answer(self) -> Done[R] | Failed | Died:
        """What became of the task; waits for it. After a death nothing is left to close."""
        try:
            result, error = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.wait()
            code = self._process.returncode
            died = Died(int(self._counter.value), self._cause(code), -code in _FROM_OUTSIDE)
            self.kill()
            return died
        return Done(result) if error is None else Failed(error)

    def stop(self) -> None:
        """End the process, from any thread. Whoever waits for its answer learns that it died."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and forget it."""
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


def ended_early(died: Died) -> StepFailedError:
    """The error for a child that died before it began a step, which no recording can be blamed for."""
    return StepFailedError(f"a decoding process ended before it read anything: {died.reason}; run with AVSKRIFT_DEBUG=1 to see why")


def _serve(connection: Connection, counter: _COUNTER) -> None:
    """A child's life: a function and its limits, then task after task until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    parent = os.getppid()
    _die_with_parent()
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
            answer: tuple[object, Exception | None] = (function(task, note, left_out), None)
        except Exception as error:
            answer = (None, _able_to_travel(error))
        del task, left_out  # before the next ones come: both would not fit
        connection.send(answer)


def _die_with_parent() -> None:
    """Ask the system for SIGKILL when the parent ends, however it does. Linux alone can; elsewhere the next step notices."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


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

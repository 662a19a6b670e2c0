"""Recordings decoded in a pool of warm child processes with limits: hostile bytes neither crash, hang nor exhaust the server."""

from __future__ import annotations

import threading
from asyncio import wrap_future
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from avskrift.audio.decode import decode_path
from avskrift.audio.limited_child import NOT_BEGUN, Died, Limits, ended_early
from avskrift.cores import available_cores
from avskrift.errors import AudioError, AvskriftError
from avskrift.logs import Log
from avskrift.serving.decoding_child import AbandonedError, Decoder, DecodingChild, limits_for
from avskrift.whisper.transcript import Audio

_MOST_CHILDREN = 4  # decoding takes a hundredth of the time of transcribing, and each child holds some 70 MB
_LONGEST_SECONDS = 1800.0  # as Settings.max_audio_seconds has it
_log = Log("serving")


class DecodingPool:
    """Decodes in as many children as the container has cores, four at most.

    The children's memory and CPU time are measured for recordings of ``longest_seconds``, unless ``limits`` are given.
    """

    def __init__(self, *, longest_seconds: float = _LONGEST_SECONDS, limits: Limits | None = None, decoder: Decoder = decode_path) -> None:
        limits = limits or limits_for(longest_seconds)
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._workers = [_Worker(self._queue, decoder, limits) for _ in range(min(_MOST_CHILDREN, available_cores()))]

    def start(self) -> None:
        """Start the children and wait until each has loaded its libraries and decoded something: a second or so.

        Raises:
            StepFailedError: a child ended before it was ready.
        """
        try:
            for worker in self._workers:
                worker.start()
            for worker in self._workers:
                worker.ready.result()
        except BaseException:
            self.close()
            raise

    async def decode(self, data: bytes, *, max_seconds: float) -> Audio:
        """Decode a recording to float32 mono samples at 16 kHz, shape ``(samples,)``, in [-1, 1].

        Cancelled before its turn, a recording is never decoded. Cancelled later, it may still be finished, since that mostly
        takes milliseconds and a new child half a second; what goes on for a quarter of a second is ended with its child.

        Raises:
            AudioTypeError, AudioTooLargeError, EmptyAudioError, NotFiniteAudioError, AudioError: as
                :func:`avskrift.audio.decode.decode`; AudioError too where the decoder crashed, or took too much memory or time.
            StepFailedError: no child could be started.
            asyncio.CancelledError: the pool was closed.
        """
        task = _Task(data, max_seconds)
        self._queue.put(task)
        try:
            return await wrap_future(task.samples)
        finally:
            task.abandoned.set()

    def close(self) -> None:
        """End all children. Whoever waits for samples is cancelled."""
        for worker in self._workers:
            worker.stop()
            self._queue.put(None)
        for worker in self._workers:
            if worker.is_alive():
                worker.join()
        while not self._queue.empty():
            if task := self._queue.get():
                task.samples.cancel()


@dataclass(slots=True, eq=False)
class _Task:
    """``abandoned`` is set once nobody waits for the samples."""

    data: bytes
    max_seconds: float
    samples: Future[Audio] = field(default_factory=Future)
    abandoned: threading.Event = field(default_factory=threading.Event)


class _Worker(threading.Thread):
    """One child at a time, and the thread that gives it recordings. A daemon: no recording holds a process that ends."""

    def __init__(self, queue: SimpleQueue[_Task | None], decoder: Decoder, limits: Limits) -> None:
        super().__init__(daemon=True, name="decoding")
        self.ready: Future[None] = Future()
        self._queue, self._decoder, self._limits = queue, decoder, limits
        self._child: DecodingChild | None = None
        self._stopped = False
        self._lock = threading.Lock()  # on the child and stopped, since stop() comes from another thread

    def run(self) -> None:
        try:
            self._living_child()
        except BaseException as error:  # it belongs to start()
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        while task := self._queue.get():
            if task.samples.set_running_or_notify_cancel():
                self._answer(task)
            del task  # its bytes need not stay until the next one comes
            self._replace_a_dead_child()
        if self._child and self._child.alive:
            self._child.kill()

    def stop(self) -> None:
        """End the child and whatever it is at, and start no other."""
        with self._lock:
            self._stopped = True
            if self._child and self._child.alive:
                self._child.stop()

    def _answer(self, task: _Task) -> None:
        try:
            samples = self._decoded(task)
        except AbandonedError:
            task.samples.set_exception(CancelledError())
        except BaseException as error:  # it belongs to whoever waits
            task.samples.set_exception(error)
        else:
            task.samples.set_result(samples)

    def _decoded(self, task: _Task) -> Audio:
        outcome = self._tried(task)
        if isinstance(outcome, Died) and outcome.by_signal_from_outside:  # once, that need not be the recording's fault
            outcome = self._tried(task)
        if not isinstance(outcome, Died):
            return outcome
        if outcome.step == NOT_BEGUN:
            raise ended_early(outcome)
        raise AudioError(f"the recording cannot be decoded: {outcome.reason}; convert it to WAV or FLAC")

    def _tried(self, task: _Task) -> Audio | Died:
        child = self._living_child()
        outcome = child.decode(task.data, max_seconds=task.max_seconds, wanted=lambda: not task.abandoned.is_set())
        if isinstance(outcome, Died):
            if self._stopped:
                raise CancelledError
            _log.warning("decoding.died", by_signal_from_outside=outcome.by_signal_from_outside)
        return outcome

    def _living_child(self) -> DecodingChild:
        """The child, or a new one that is warm."""
        if self._child and self._child.alive:
            return self._child
        with self._lock:
            if self._stopped:
                raise CancelledError
            child = self._child = DecodingChild(self._decoder, self._limits)
        try:
            child.warm_up()
        except AvskriftError:
            if self._stopped:
                raise CancelledError from None
            raise
        return child

    def _replace_a_dead_child(self) -> None:
        """After the request was answered, so that the next one need not wait for a new child."""
        try:
            self._living_child()
        except CancelledError:
            return
        except AvskriftError as error:  # the next request tries again, and is told
            _log.error("decoding.no_child", error=type(error).__name__)

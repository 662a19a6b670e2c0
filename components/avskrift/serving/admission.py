"""Who is let in: requests from their first byte to their answer, by the memory they take and the work they bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avskrift.serving.answers import Busy
from avskrift.serving.scheduler import Scheduler
from avskrift.serving.settings import Settings

_MIB = 1 << 20
_ADMITTED_SHARE = 0.5  # of the deadline, as the wait is guessed: a guess is no promise, and whoever is let in is to be answered


class Admission:
    """Counts of one server, kept by its event loop alone. ``arriving``: requests that are received or decoded just now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spooled_bytes = 0
        self._audio_s = 0.0
        self.arriving = 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio that are waiting or being transcribed."""
        return self._audio_s

    @contextmanager
    def spooled(self, size: int) -> Iterator[None]:
        """A request of at most ``size`` bytes while it is held.

        Raises:
            Busy: there is no room for it in memory, or the queue is full in any case.
        """
        most = int(self._settings.max_spool_mb * _MIB)
        if self._spooled_bytes and self._spooled_bytes + size > most:
            raise Busy("the server holds as many uploads as it has room for; try again later", retry_after_s=1.0)
        if self._audio_s >= self._settings.max_queue_seconds:
            raise self._full()
        self._spooled_bytes += size
        try:
            yield
        finally:
            self._spooled_bytes -= size

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """A request that will be in the queue soon."""
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    @contextmanager
    def queued(self, audio_s: float, queue: Scheduler) -> Iterator[None]:
        """A recording of ``audio_s`` while it waits and is transcribed. Whoever is alone is let in, however long it is.

        Raises:
            Busy: the queue would be over its limit, or it could not be done before its deadline.
        """
        if self._audio_s and self._audio_s + audio_s > self._settings.max_queue_seconds:
            raise self._full(queue.wait_s(audio_s))
        wait_s, longest = queue.wait_s(audio_s), _ADMITTED_SHARE * self._settings.deadline_seconds
        if self._audio_s and wait_s > longest:
            raise self._full(wait_s - longest)
        self._audio_s += audio_s
        try:
            yield
        finally:
            self._audio_s = max(0.0, self._audio_s - audio_s)

    def _full(self, retry_after_s: float = 1.0) -> Busy:
        longest = self._settings.deadline_seconds
        return Busy("the server has as much to transcribe as it may; try again later", retry_after_s=min(max(1.0, retry_after_s), longest))

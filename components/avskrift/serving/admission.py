"""Who is let in: requests from their first byte to their answer, by the memory they take and the work they bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from avskrift.serving.answers import Busy
from avskrift.serving.scheduler import Scheduler
from avskrift.serving.settings import Settings

_MIB = 1 << 20
_ADMITTED_SHARE = 0.5  # of the deadline, as the wait is guessed: a guess is no promise, and whoever is let in is to be answered
_SMOOTHING = 0.1  # share of the last upload in the seconds of audio that a byte is guessed to hold
_MOST_SECONDS_A_BYTE = 1 / 750  # 6 kbit/s, the lowest rate that Opus has: what holds more than that is hardly speech


@dataclass(slots=True, eq=False)
class _Upload:
    """A request that is held. ``expected_s``: seconds of audio that it will still bring into the queue."""

    size: int
    expected_s: float


_upload: ContextVar[_Upload | None] = ContextVar("upload", default=None)  # the one that the running task is about


class Admission:
    """Counts of one server, kept by its event loop alone. ``arriving``: requests that are received or decoded just now.

    Whoever is refused should be told so at once, before anything is read or decoded. So the door counts what is on its way to the
    queue too: by a guess from an upload's size and the audio in those before it, and once it is decoded, by what it holds.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spooled_bytes = 0
        self._audio_s = 0.0
        self._expected_s = 0.0
        self._seconds_a_byte = 0.0
        self.arriving = 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio that are waiting or being transcribed."""
        return self._audio_s

    @contextmanager
    def spooled(self, size: int, *, declared: bool = True) -> Iterator[None]:
        """A request of at most ``size`` bytes while it is held; of ``declared`` ones the size is known, not just its limit.

        Raises:
            Busy: there is no room for it in memory, or there will be none in the queue.
        """
        most = int(self._settings.max_spool_mb * _MIB)
        if self._spooled_bytes and self._spooled_bytes + size > most:
            raise Busy("the server holds as many uploads as it has room for; try again later", retry_after_s=1.0)
        expected_s = min(size * self._seconds_a_byte, self._settings.max_audio_seconds) if declared else 0.0
        ahead_s = self._audio_s + self._expected_s
        if ahead_s >= self._settings.max_queue_seconds or (ahead_s and ahead_s + expected_s > self._settings.max_queue_seconds):
            raise self._full()
        upload = _Upload(size if declared else 0, expected_s)
        self._spooled_bytes += size
        self._expected_s += expected_s
        token = _upload.set(upload)
        try:
            yield
        finally:
            _upload.reset(token)
            self._spooled_bytes -= size
            self._expect(upload, 0.0)

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """A request that will be in the queue soon."""
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    def decoded(self, audio_s: float) -> None:
        """The upload of the running task turned out to hold so many seconds: a guess no more, and the better the next guess."""
        upload = _upload.get()
        if upload is None:
            return
        self._expect(upload, audio_s)
        if upload.size:
            seconds_a_byte = min(audio_s / upload.size, _MOST_SECONDS_A_BYTE)
            known = self._seconds_a_byte or seconds_a_byte
            self._seconds_a_byte = (1 - _SMOOTHING) * known + _SMOOTHING * seconds_a_byte

    @contextmanager
    def queued(self, audio_s: float, queue: Scheduler, *, left_s: float | None = None) -> Iterator[None]:
        """The recordings of one request, of ``audio_s`` together, while they wait and are transcribed.

        They are let in together or not at all, so that none of them is in another's way: whoever is alone is let in, however long.
        ``left_s`` is what is left of the request's deadline; all of it where it is not given.

        Raises:
            Busy: the queue would be over its limit, or they could not be done before the deadline.
        """
        upload = _upload.get()
        if upload is not None:
            self._expect(upload, max(0.0, upload.expected_s - audio_s))
        if self._audio_s and self._audio_s + audio_s > self._settings.max_queue_seconds:
            raise self._full(queue.wait_s(audio_s))
        wait_s, longest = queue.wait_s(audio_s), _ADMITTED_SHARE * (self._settings.deadline_seconds if left_s is None else left_s)
        if self._audio_s and wait_s > longest:
            raise self._full(wait_s - longest)
        self._audio_s += audio_s
        try:
            yield
        finally:
            self._audio_s = max(0.0, self._audio_s - audio_s)

    def _expect(self, upload: _Upload, seconds: float) -> None:
        self._expected_s = max(0.0, self._expected_s + seconds - upload.expected_s)
        upload.expected_s = seconds

    def _full(self, retry_after_s: float = 1.0) -> Busy:
        longest = self._settings.deadline_seconds
        return Busy("the server has as much to transcribe as it may; try again later", retry_after_s=min(max(1.0, retry_after_s), longest))

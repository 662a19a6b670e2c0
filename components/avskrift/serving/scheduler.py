"""Who is heard next: recordings take turns window by window, and windows of a kind are read together.

Start-time fair queueing, by seconds that the encoder is given: a recording of an hour and one of a second that comes after it
each get their share of the engine, whatever the other one's length.
Source: Goyal, Vin and Cheng, *Start-time Fair Queueing* (1996).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from avskrift.audio.constants import FRAMES_PER_SECOND
from avskrift.logs import Log
from avskrift.whisper.transcript import LanguageGuess, Options
from avskrift.whisper.windows import Kind, Window, WindowText, WindowTranscriber

_SECONDS_AT_ONCE = 60.0  # of encoder context: so long do others wait for what is being read, some two seconds on two cores
_SMOOTHING = 0.2  # share of the last batch in the rate that waits are guessed from
_log = Log("serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A window that was read: its number in the recording and its text."""

    number: int
    text: WindowText


@dataclass(slots=True, kw_only=True, eq=False)
class Turn:
    """One recording in the queue. ``on_heard`` and ``on_failure`` are called in the scheduler's thread, at once and briefly."""

    windows: Sequence[Window]
    options: Options
    on_heard: Callable[[Heard], None]
    on_failure: Callable[[Exception], None]
    submitted: float = 0.0  # by time.monotonic()
    started: float | None = None
    _kinds: list[Kind] = field(default_factory=list)
    _waiting: list[int] = field(default_factory=list)  # numbers of the windows that are not read yet, in order
    _virtual: float = 0.0
    _languages: tuple[LanguageGuess, ...] = ()

    @property
    def waits_s(self) -> float:
        """Seconds of encoder context that it still needs."""
        return sum(_seconds(self._kinds[number]) for number in self._waiting)

    def _language(self) -> str | None:
        return self.options.language or (self._languages[0].language if self._languages else None)

    def _ready(self) -> list[int]:
        """Windows that may be read now: the first alone while its language is unknown, since the others are in the same one."""
        first_alone = self._language() is None and self._waiting[:1] == [0]
        return self._waiting[:1] if first_alone else self._waiting


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """What is kept for a recording that was let in and is still being cut: ``seconds`` of the engine, as far as its length tells."""

    seconds: float


class Scheduler:
    """Reads windows with ``engine`` in one thread, since the engine spreads each batch over all cores.

    ``gather_s`` is how long a batch with room waits for those who are known to be on their way (``expected``): requests that are
    still being received or decoded. Nobody waits for them who is alone. ``on_batch`` is told the windows of each batch and the
    seconds that it took.
    """

    def __init__(
        self,
        engine: WindowTranscriber,
        *,
        gather_s: float = 0.0,
        expected: Callable[[], int] = lambda: 0,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._engine = engine
        self._gather_s, self._expected, self._on_batch = gather_s, expected, on_batch
        self._turns: list[Turn] = []
        self._kept: list[Place] = []
        self._changed = threading.Condition()
        self._virtual = 0.0
        self._rate = 0.0  # encoder seconds a second
        threading.Thread(target=self._work, daemon=True, name="transcription").start()

    @contextmanager
    def kept(self, seconds: Sequence[float]) -> Iterator[list[Place]]:
        """Places for recordings of so many seconds each, which others have to wait for from now on; free again at the end."""
        places = [Place(seconds=each) for each in seconds]
        with self._changed:
            self._kept.extend(places)
        try:
            yield places
        finally:
            for place in places:
                self.free(place)

    def free(self, place: Place) -> None:
        """Give a place up, if it was not yet: its recording was submitted, or has nothing to be read."""
        with self._changed:
            if place in self._kept:
                self._kept.remove(place)

    def submit(self, turn: Turn) -> None:
        """Put a recording into the queue. One without a window to read has nothing to wait for, and is not to be given."""
        turn._kinds = [self._engine.kind(window, turn.options) for window in turn.windows]
        turn._waiting = list(range(len(turn.windows)))
        with self._changed:
            turn._virtual = self._virtual
            turn.submitted = time.monotonic()
            self._turns.append(turn)
            self._changed.notify()

    def withdraw(self, turn: Turn) -> None:
        """Take a recording out of the queue; of what is being read just now, nothing is told any more."""
        with self._changed:
            turn._waiting.clear()
            if turn in self._turns:
                self._turns.remove(turn)

    def queued_s(self) -> float:
        """Seconds of encoder context that wait."""
        with self._changed:
            return sum(turn.waits_s for turn in self._turns)

    def wait_s(self, seconds: float) -> float:
        """A guess how long recordings that need so many seconds of the engine would take from now; 0 before the first batch."""
        with self._changed:
            others = [turn.waits_s for turn in self._turns] + [place.seconds for place in self._kept]
            ahead = sum(min(other, max(seconds, _SECONDS_AT_ONCE)) for other in others)
            return (ahead + seconds) / self._rate if self._rate else 0.0

    def _work(self) -> None:
        while True:
            self._read(*self._next())

    def _next(self) -> tuple[Options, list[tuple[Turn, int]]]:
        """The next batch: the head's first window, and what may be read beside it."""
        with self._changed:
            while not self._turns:
                self._changed.wait()
            if self._gather_s and self._expected():
                self._gather()
            return self._batch()

    def _gather(self) -> None:
        """Wait for more, as long as somebody is on the way and the batch has room."""
        until = time.monotonic() + self._gather_s
        while self._turns and self._expected() and len(self._turns) < self._turns[0]._kinds[0].at_once:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
        while not self._turns:  # whoever was there may have left meanwhile
            self._changed.wait()

    def _batch(self) -> tuple[Options, list[tuple[Turn, int]]]:
        """Called with the lock. In the order of virtual time; each recording gives one window a round, so that many share a batch."""
        ordered = sorted(self._turns, key=lambda turn: turn._virtual)
        head = ordered[0]
        self._virtual = max(self._virtual, head._virtual)
        kind, options = head._kinds[head._ready()[0]], _shared(head.options)
        room = max(1, min(kind.at_once, int(_SECONDS_AT_ONCE / _seconds(kind))))
        offered = {
            turn: [number for number in turn._ready() if turn._kinds[number] == kind]
            for turn in ordered
            if _shared(turn.options) == options
        }
        chosen: list[tuple[Turn, int]] = []
        while len(chosen) < room and any(offered.values()):
            for turn, numbers in offered.items():
                if numbers and len(chosen) < room:
                    chosen.append((turn, numbers.pop(0)))
        now = time.monotonic()
        for turn, number in chosen:
            turn.started = turn.started or now
            turn._waiting.remove(number)
            turn._virtual = max(turn._virtual, self._virtual) + _seconds(kind)
        # One whose windows are all being read has left the queue; one that waits for its first window's language stays.
        self._turns = [turn for turn in self._turns if turn._waiting]
        return options, chosen

    def _read(self, options: Options, chosen: Sequence[tuple[Turn, int]]) -> None:
        started = time.monotonic()
        try:
            texts = self._engine.read([turn.windows[number] for turn, number in chosen], options, [turn._language() for turn, _ in chosen])
        except Exception as error:  # it belongs to whoever waits
            self._blame(chosen, error)
            return
        took = time.monotonic() - started
        seconds = sum(_seconds(turn._kinds[number]) for turn, number in chosen)
        rate = seconds / max(took, 1e-6)
        self._rate = rate if not self._rate else (1 - _SMOOTHING) * self._rate + _SMOOTHING * rate
        if self._on_batch:
            self._on_batch(len(chosen), took)
        for (turn, number), text in zip(chosen, texts, strict=True):
            turn._languages = turn._languages or text.languages
            turn.on_heard(Heard(number=number, text=text))

    def _blame(self, chosen: Sequence[tuple[Turn, int]], error: Exception) -> None:
        """Which of several the engine failed on is not known: each is read again alone, and only the guilty one fails."""
        if len(chosen) > 1:
            for turn, number in chosen:
                self._read(_shared(turn.options), [(turn, number)])
            return
        turn = chosen[0][0]
        self.withdraw(turn)
        turn.on_failure(error)


def _seconds(kind: Kind) -> float:
    return kind.frames / FRAMES_PER_SECOND


def _shared(options: Options) -> Options:
    """What windows must have in common to be read together; each has a language of its own."""
    return replace(options, language=None)

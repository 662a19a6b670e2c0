"""Turns: who is read with whom, in what order, and what becomes of those who leave or fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avskrift.serving.scheduler import Heard, Scheduler, Turn
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Segment
from avskrift.whisper.windows import Kind, Window, WindowText

SWEDISH = Options(language="sv")
PATIENCE_S = 60.0


class GatedEngine:
    """Says of each window which one it is. It reads a batch when ``go`` is called, and tells of each that it was given."""

    languages = frozenset({"sv", "en"})

    def __init__(self, *, open_gate: bool = False) -> None:
        self.batches: SimpleQueue[tuple[list[int], Options, list[str | None]]] = SimpleQueue()
        self._gate = threading.Semaphore(0)
        self._open = open_gate

    def identity(self) -> str:
        return "gated"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> Any:
        raise NotImplementedError

    def check(self, options: Options) -> None:
        return

    def windows(self, samples: Audio) -> list[Window]:
        raise NotImplementedError

    def kind(self, window: Window, options: Options) -> Kind:
        return Kind(frames=len(window.samples) // 160, room=1, timed=options.timestamps != "none", at_once=4)

    def read(self, windows: Sequence[Window], options: Options, languages: Sequence[str | None]) -> list[WindowText]:
        self.batches.put(([window.recording for window in windows], options, list(languages)))
        if not self._open:
            assert self._gate.acquire(timeout=PATIENCE_S)
        if any(window.recording < 0 for window in windows):
            raise RuntimeError("it cannot read this one")
        return [
            WindowText(segments=(said(window),), languages=() if language else (LanguageGuess(language="en", probability=0.9),))
            for window, language in zip(windows, languages, strict=True)
        ]

    def go(self, batches: int = 1) -> None:
        self._gate.release(batches)

    def batch(self) -> list[int]:
        return self.batches.get(timeout=PATIENCE_S)[0]


def said(window: Window) -> Segment:
    return Segment(start_s=0.0, end_s=1.0, text=f"{window.recording}/{window.start}", avg_logprob=0.0, no_speech_prob=0.0)


@dataclass
class Recording:
    """A turn of windows of ``seconds`` each, and what came of it."""

    number: int
    seconds: Sequence[float] = (5.0,)
    options: Options = SWEDISH
    heard: list[Heard] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def turn(self) -> Turn:
        windows = [
            Window(self.number, place, np.zeros(int(seconds * 16_000), dtype=np.float32), first=place == 0)
            for place, seconds in enumerate(self.seconds)
        ]
        return Turn(windows=windows, options=self.options, on_heard=self._hear, on_failure=self._fail)

    def wait(self) -> None:
        assert self.done.wait(PATIENCE_S)

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        if len(self.heard) == len(self.seconds):
            self.done.set()

    def _fail(self, error: Exception) -> None:
        self.failures.append(error)
        self.done.set()


def busy(engine: GatedEngine, **options: Any) -> Scheduler:
    """A scheduler that is reading something, so that what is submitted next has to wait."""
    scheduler = Scheduler(engine, **options)
    scheduler.submit(Recording(99).turn())
    assert engine.batch() == [99]
    return scheduler


def test_those_who_wait_are_read_together_each_in_its_own_language() -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    for number, language in ((0, "sv"), (1, "en"), (2, None)):
        scheduler.submit(Recording(number, options=Options(language=language)).turn())
    engine.go()
    assert engine.batches.get(timeout=PATIENCE_S) == ([0, 1, 2], Options(), ["sv", "en", None])


@pytest.mark.parametrize(
    "other", [Recording(1, (6.0,)), Recording(1, options=Options(task="translate")), Recording(1, options=Options(prompt="Hej"))]
)
def test_what_cannot_be_read_together_is_not(other: Recording) -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    scheduler.submit(Recording(0).turn())
    scheduler.submit(other.turn())
    engine.go(2)
    assert [engine.batch(), engine.batch()] == [[0], [1]]


def test_a_batch_takes_no_more_than_the_engine_does() -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    for number in range(6):
        scheduler.submit(Recording(number).turn())
    engine.go(2)
    assert [engine.batch(), engine.batch()] == [[0, 1, 2, 3], [4, 5]]


def test_a_second_does_not_wait_for_an_hour() -> None:
    engine = GatedEngine()
    scheduler = Scheduler(engine)
    hour = Recording(0, (15.0,) * 240)
    scheduler.submit(hour.turn())
    assert engine.batch() == [0] * 4
    scheduler.submit(Recording(1, (5.0,)).turn())
    engine.go(2)
    assert engine.batch() == [1], "it came when the hour had had its share"
    assert engine.batch() == [0] * 4


def test_two_hours_take_turns() -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    hours = [Recording(number, (15.0,) * 24) for number in (0, 1)]
    for one in hours:
        scheduler.submit(one.turn())
    engine.go(13)
    for one in hours:
        one.wait()
    read = [engine.batch() for _ in range(12)]
    assert sum(batch.count(0) for batch in read[:6]) == sum(batch.count(1) for batch in read[:6])


def test_a_recording_is_in_the_language_of_its_first_window() -> None:
    engine = GatedEngine(open_gate=True)
    recording = Recording(0, (5.0, 5.0, 5.0), options=Options())
    Scheduler(engine).submit(recording.turn())
    recording.wait()
    asked = [engine.batches.get(timeout=PATIENCE_S) for _ in range(2)]
    assert asked == [([0], Options(), [None]), ([0, 0], Options(), ["en", "en"])]


def test_whoever_leaves_is_not_read() -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    left, stayed = Recording(0), Recording(1)
    turn = left.turn()
    scheduler.submit(turn)
    scheduler.submit(stayed.turn())
    assert scheduler.queued_s() == 10.0
    scheduler.withdraw(turn)
    assert scheduler.queued_s() == 5.0
    engine.go(2)
    stayed.wait()
    assert engine.batch() == [1]
    assert not left.heard


def test_only_what_the_engine_fails_on_fails() -> None:
    engine = GatedEngine()
    scheduler = busy(engine)
    others, guilty = [Recording(1), Recording(2)], Recording(-1)
    for one in (others[0], guilty, others[1]):
        scheduler.submit(one.turn())
    engine.go(6)
    for one in (*others, guilty):
        one.wait()
    assert [len(one.heard) for one in others] == [1, 1]
    assert [type(error) for error in guilty.failures] == [RuntimeError]
    assert scheduler.queued_s() == 0


def test_a_batch_with_room_waits_for_those_on_their_way_and_nobody_alone_does() -> None:
    engine = GatedEngine(open_gate=True)
    coming = [1]
    scheduler = Scheduler(engine, gather_s=PATIENCE_S, expected=lambda: coming[0])
    for number in range(4):
        scheduler.submit(Recording(number).turn())
    assert engine.batch() == [0, 1, 2, 3], "it was read without the others, or waited for more than it had room for"
    coming[0] = 0
    scheduler.submit(Recording(4).turn())
    assert engine.batch() == [4], "it would have waited a minute"


def test_a_wait_is_guessed_from_what_was_read() -> None:
    engine = GatedEngine(open_gate=True)
    scheduler = Scheduler(engine)
    assert scheduler.wait_s(5.0) == 0, "nothing is known yet"
    first = Recording(0)
    scheduler.submit(first.turn())
    first.wait()
    assert scheduler.wait_s(5.0) > 0
    assert scheduler.wait_s(50.0) == pytest.approx(10 * scheduler.wait_s(5.0))


@given(st.lists(st.lists(st.sampled_from([5.0, 5.5, 15.0]), min_size=1, max_size=8), min_size=1, max_size=8), st.booleans())
def test_every_window_is_read_once_and_told_to_its_own(recordings: list[list[float]], named: bool) -> None:
    scheduler = Scheduler(GatedEngine(open_gate=True))
    options = SWEDISH if named else Options()
    given_ = [Recording(number, seconds, options=options) for number, seconds in enumerate(recordings)]
    for one in given_:
        scheduler.submit(one.turn())
    for one in given_:
        one.wait()
        texts = {heard.number: heard.text.segments[0].text for heard in one.heard}
        assert texts == {place: f"{one.number}/{place}" for place in range(len(one.seconds))}

"""Who is let in: by memory, by what waits already, and by the deadline."""

from __future__ import annotations

from contextlib import ExitStack
from typing import cast

import pytest

from avskrift.serving.admission import Admission
from avskrift.serving.answers import Busy
from avskrift.serving.scheduler import Scheduler
from avskrift.serving.settings import Settings

MIB = 1 << 20


class Queue:
    """A queue that says how long a recording would take."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self._wait_s = wait_s

    def wait_s(self, seconds: float) -> float:
        return self._wait_s


def queue(wait_s: float = 0.0) -> Scheduler:
    return cast(Scheduler, Queue(wait_s))


def test_the_audio_of_those_who_are_in_is_bounded_and_freed() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.queued(6, queue()):
        with admission.queued(4, queue()):
            assert admission.audio_s == 10
            with pytest.raises(Busy), admission.queued(0.1, queue()):
                pass
        with admission.queued(4, queue()):
            pass
    assert admission.audio_s == 0


def test_whoever_is_alone_is_let_in_however_long_the_recording() -> None:
    admission = Admission(Settings(max_queue_seconds=10, deadline_seconds=1))
    with admission.queued(1000, queue(wait_s=30)):
        assert admission.audio_s == 1000


def test_what_could_not_be_answered_in_time_is_refused_and_told_when_to_come_again() -> None:
    admission = Admission(Settings(deadline_seconds=20))
    with admission.queued(1, queue()), pytest.raises(Busy) as refused, admission.queued(1, queue(wait_s=17.5)):
        pass
    assert refused.value.retry_after_s == 7.5
    assert refused.value.headers == {"Retry-After": "8"}
    with admission.queued(1, queue()), admission.queued(1, queue(wait_s=9.5)):
        pass


def test_nobody_is_sent_away_for_longer_than_a_request_may_take() -> None:
    admission = Admission(Settings(deadline_seconds=20))
    with admission.queued(1, queue()), pytest.raises(Busy) as refused, admission.queued(1, queue(wait_s=1000)):
        pass
    assert refused.value.retry_after_s == 20


def test_uploads_are_bounded_and_freed() -> None:
    admission = Admission(Settings(max_spool_mb=10))
    with admission.spooled(6 * MIB):
        with pytest.raises(Busy), admission.spooled(5 * MIB):
            pass
        with admission.spooled(4 * MIB):
            pass
    with admission.spooled(25 * MIB):  # alone, so that a small bound does not shut the door for good
        pass


def test_a_full_queue_refuses_before_anything_is_read() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.queued(10, queue()), pytest.raises(Busy), admission.spooled(1):
        pass


def test_the_door_counts_what_is_decoded_and_not_yet_in_the_queue() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.spooled(1000):
        admission.decoded(10)
        with pytest.raises(Busy), admission.spooled(1000):
            pass
    with admission.spooled(1000):
        pass


def test_the_door_guesses_what_an_upload_will_bring_from_those_before_it() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.spooled(4000):
        admission.decoded(4)
    with admission.spooled(4000), admission.spooled(4000):  # as they look, 8 seconds of 10
        with pytest.raises(Busy), admission.spooled(4000):
            pass
        with admission.spooled(1000):
            pass


def test_a_guess_ends_with_what_the_recording_holds() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.spooled(4000):
        admission.decoded(4)
    with admission.spooled(8000):
        admission.decoded(1)
        with admission.queued(1, queue()), admission.spooled(4000), admission.spooled(4000):
            assert admission.audio_s == 1


def test_a_recording_in_the_queue_is_not_counted_twice() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.spooled(1000):
        admission.decoded(6)
        with admission.queued(3, queue()), admission.queued(3, queue()), admission.spooled(1):
            assert admission.audio_s == 6


def test_nothing_is_guessed_of_a_body_whose_size_nobody_said() -> None:
    admission = Admission(Settings(max_queue_seconds=10))
    with admission.spooled(4000):
        admission.decoded(4)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.spooled(25 * MIB, declared=False))


def test_a_guess_is_no_longer_than_a_request_may_be_nor_than_speech_can_be() -> None:
    admission = Admission(Settings(max_queue_seconds=100, max_audio_seconds=40))
    with admission.spooled(1000):
        admission.decoded(1000)  # a flat line, which a few bytes describe
    with admission.spooled(10_000), admission.spooled(10_000):  # 13 seconds each at 6 kbit/s, not 10,000
        pass
    with admission.spooled(MIB), admission.spooled(MIB):  # 40 seconds each
        pass


def test_whatever_fails_inside_is_counted_out() -> None:
    admission = Admission(Settings())
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ZeroDivisionError))
        for entered in (admission.spooled(1), admission.arrival(), admission.queued(5, queue())):
            stack.enter_context(entered)
        raise ZeroDivisionError
    assert (admission.audio_s, admission.arriving) == (0, 0)

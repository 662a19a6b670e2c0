"""Signals to stop take effect until champion moves, and again where it could not be moved."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from avskrift.errors import ConflictError
from avskrift.steps.deploy.stop_signals import StopSignals


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_before_the_moment_they_stop_the_work() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals():
        press()


def test_from_then_on_they_have_no_effect_until_all_is_done(caplog: pytest.LogCaptureFixture) -> None:
    with StopSignals() as signals:
        with signals.held_back():
            press()
        press()
    assert "deploy.stopped_too_late" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        press()


def test_where_the_moment_fails_they_are_heard_again() -> None:
    def fails() -> None:
        with StopSignals() as signals:
            with pytest.raises(ConflictError), signals.held_back():
                raise ConflictError("somebody else was faster")
            press()

    with pytest.raises(KeyboardInterrupt):
        fails()


def test_in_another_thread_there_is_nothing_to_hold_back() -> None:
    def body() -> object:
        with StopSignals() as signals, signals.held_back():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(body).result() is signal.default_int_handler

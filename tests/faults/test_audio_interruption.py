"""A Ctrl-C while a recording is decoded or encoded ends the work; it is neither lost nor taken for a damaged recording."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from recordings import m4a, tone

from avskrift.audio.decode import decode, encode_flac, probe

SAMPLES = tone(2.0)
FLAC = encode_flac(SAMPLES)
M4A = m4a(SAMPLES)
_MOMENTS = 40
_ROUNDS = 2_000  # far more work than the longest wait below
_DROPPED_BY_PYTHON = 6


@pytest.fixture(autouse=True)
def _interrupted_by_a_timer() -> Iterator[None]:
    """The timer of the process's own CPU time: pytest-timeout has the other one."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize(
    "work",
    [lambda: decode(FLAC), lambda: decode(M4A), lambda: probe(FLAC), lambda: encode_flac(SAMPLES)],
    ids=["decode", "decode by FFmpeg", "probe", "encode"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_comes_through_at_any_moment(work: Callable[[], object]) -> None:
    """But for the few that Python itself drops, those that arrive while it runs a finaliser."""
    lost = sum(not _interrupted(work, after_s=0.002 + moment * 0.0001) for moment in range(_MOMENTS))
    assert lost <= _DROPPED_BY_PYTHON


def _interrupted(work: Callable[[], object], *, after_s: float) -> bool:
    """Whether an interrupt after so much CPU time ended the work."""
    signal.setitimer(signal.ITIMER_VIRTUAL, after_s)
    try:
        for _ in range(_ROUNDS):
            work()
    except KeyboardInterrupt:
        return True
    return False

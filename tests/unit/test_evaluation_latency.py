from collections.abc import Sequence

import numpy as np
import pytest

from avskrift.evaluation import latency
from avskrift.evaluation.latency import CLIPS, measure_latency
from avskrift.whisper.transcript import Audio, Options, Transcript


class Clock:
    """Stands for time: a recording takes its own length to transcribe, and the first call a hundred seconds more."""

    languages = frozenset({"sv"})

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now, self.calls = 0.0, 0
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self._now)

    def identity(self) -> str:
        return "a clock"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        assert len(recordings) == 1
        self._now += len(recordings[0]) + (0 if self.calls else 100)
        self.calls += 1
        return [Transcript(text="", language="sv", duration_s=1)]


def test_the_median_and_the_slowest_of_twenty_are_of_single_clips_without_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [np.zeros(seconds, dtype=np.float32) for seconds in range(1, 22)]
    assert measure_latency(recordings, Clock(monkeypatch), language="sv") == (11.0, 20.0, 21)


def test_a_few_clips_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert measure_latency([np.zeros(5, dtype=np.float32)] * 100, clock, language="sv") == (5.0, 5.0, CLIPS)
    assert clock.calls == CLIPS + 1


def test_no_clips_have_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_latency([], Clock(monkeypatch), language="sv") == (0.0, 0.0, 0)

"""Speed from given times: what counts, what does not, and that results are told in order."""

from __future__ import annotations

import pytest
import torch

from avskrift.training import meter as metering
from avskrift.training.meter import Finished, Meter, Speed, Work


class Clock:
    """Stands for the time: a test says what it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(metering, "time", clock)
    return clock


def _step(
    meter: Meter, clock: Clock, number: int, *, waits: float, takes: float, fresh: bool = False, broken: float = 0.0
) -> list[Finished]:
    clock.now += waits
    meter.begin()
    clock.now += takes
    return meter.end(number, torch.tensor([float(number), 0.5, broken]), Work(clips=10, audio_s=40.0, flops=2e12, fresh=fresh))


def test_speed_counts_work_and_waiting_and_leaves_out_steps_that_compile(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    _step(meter, clock, 0, waits=5, takes=20, fresh=True)
    _step(meter, clock, 1, waits=1, takes=3)
    _step(meter, clock, 2, waits=0, takes=4)
    assert meter.speed() == Speed(
        seconds=8.0,
        clips_per_second=20 / 8,
        audio_seconds_per_second=80 / 8,
        data_wait_share=1 / 8,
        teraflops=4 / 8,
        compile_seconds=20.0,
    )


def test_what_happens_between_a_drain_and_the_next_step_is_no_waiting_for_data(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    _step(meter, clock, 0, waits=0, takes=2)
    assert meter.drain() == []
    _step(meter, clock, 1, waits=60, takes=2)  # a validation, say
    assert (meter.speed().seconds, meter.speed().data_wait_share) == (4, 0)


def test_people_watch_the_last_step(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    assert meter.recent() == {}
    _step(meter, clock, 0, waits=0, takes=2)
    _step(meter, clock, 1, waits=1, takes=4)
    assert meter.recent() == {"clips_per_second": 2.0, "training_audio_seconds_per_second": 8.0}


def test_a_step_is_told_with_its_loss_and_whether_it_broke(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    assert _step(meter, clock, 7, waits=0, takes=1) == [Finished(7, 7.0, 0.5, False)]
    assert _step(meter, clock, 8, waits=0, takes=1, broken=1.0) == [Finished(8, 8.0, 0.5, True)]


def test_without_a_counted_step_there_is_no_speed(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    _step(meter, clock, 0, waits=0, takes=3, fresh=True)
    assert meter.speed() == Speed(compile_seconds=3.0)

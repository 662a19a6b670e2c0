"""How fast training is, by the clock of the device that computes: a GPU's results are read some steps late, without waiting."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import torch

_LAG = 2  # steps that a GPU may be behind: enough to be always busy, little enough to stop soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of the counted steps. Not counted: validations, and steps in which a shape is met first (they compile).

    ``data_wait_share`` is the share of the time in which the device had nothing to do between two steps; ``teraflops`` are
    the useful 10^12 operations a second of this process (see :mod:`avskrift.training.flops`); clips and audio are those of
    all processes. ``compile_seconds`` is what the steps with new shapes took.
    """

    seconds: float = 0.0
    clips_per_second: float = 0.0
    audio_seconds_per_second: float = 0.0
    data_wait_share: float = 0.0
    teraflops: float = 0.0
    gpu_memory_gb: float = 0.0
    compile_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step did: clips and seconds of audio in all processes, operations in this one, whether a shape was new."""

    clips: int
    audio_s: float
    flops: float
    fresh: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A step (from 0) that the device is done with."""

    step: int
    loss: float
    gradient_norm: float
    broken: bool


class Meter:
    """Call :meth:`begin` and :meth:`end` around each step, in that order."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._flights: deque[tuple[int, torch.Tensor, object, object, Work]] = deque()
        self._begun: object = None
        self._last_end: object = None
        self._seconds = self._waited = self._compiled = 0.0
        self._clips, self._audio_s, self._flops = 0, 0.0, 0.0
        self._recent = (0.0, 0, 0.0)

    def begin(self) -> None:
        """A step's data is there; the device is about to get it."""
        self._begun = self._now()

    def end(self, step: int, outcome: torch.Tensor, work: Work) -> list[Finished]:
        """A step was handed to the device; those that it has finished by now."""
        read = outcome.to("cpu", non_blocking=True) if self._cuda else outcome
        self._flights.append((step, read, self._begun, self._now(), work))
        return self._finished(_LAG if self._cuda else 0)

    def drain(self) -> list[Finished]:
        """Wait for all steps; what follows does not count as waiting for data."""
        finished = self._finished(0)
        self._last_end = None
        return finished

    def recent(self) -> dict[str, float]:
        """Clips and seconds of audio a second of the last step, and GPU memory, for people to watch."""
        seconds, clips, audio_s = self._recent
        memory = {"gpu_memory_gb": self._memory_gb()} if self._cuda else {}
        return memory | ({"clips_per_second": clips / seconds, "training_audio_seconds_per_second": audio_s / seconds} if seconds else {})

    def speed(self) -> Speed:
        """Over all counted steps."""
        seconds = self._seconds
        if not seconds:
            return Speed(gpu_memory_gb=self._memory_gb(), compile_seconds=self._compiled)
        return Speed(
            seconds=seconds,
            clips_per_second=self._clips / seconds,
            audio_seconds_per_second=self._audio_s / seconds,
            data_wait_share=self._waited / seconds,
            teraflops=self._flops / seconds / 1e12,
            gpu_memory_gb=self._memory_gb(),
            compile_seconds=self._compiled,
        )

    def _finished(self, lag: int) -> list[Finished]:
        finished = []
        while len(self._flights) > lag:
            step, outcome, begun, ended, work = self._flights.popleft()
            if isinstance(ended, torch.cuda.Event):
                ended.synchronize()
            loss, norm, broken = outcome.tolist()
            self._count(begun, ended, work)
            finished.append(Finished(step, loss, norm, bool(broken)))
        return finished

    def _count(self, begun: object, ended: object, work: Work) -> None:
        busy = _seconds(begun, ended)
        waited = _seconds(self._last_end, begun) if self._last_end is not None else 0.0
        self._last_end = ended
        if work.fresh:
            self._compiled += busy
            return
        self._recent = (busy + waited, work.clips, work.audio_s)
        self._seconds += busy + waited
        self._waited += waited
        self._clips += work.clips
        self._audio_s += work.audio_s
        self._flops += work.flops

    def _now(self) -> object:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _memory_gb(self) -> float:
        return torch.cuda.max_memory_allocated(self._device) / 1e9 if self._cuda else 0.0


def _seconds(start: object, end: object) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return float(start.elapsed_time(end)) / 1000
    assert isinstance(start, float)
    assert isinstance(end, float)
    return end - start

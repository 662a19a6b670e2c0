"""The plan that a run follows on this machine, or goes on with, and whether compiling for its shapes pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import WhisperConfig

from avskrift.audio.constants import HOP_LENGTH
from avskrift.corpus.dataset import Clip
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World
from avskrift.training.flops import training_flops
from avskrift.training.hardware import choose_compile
from avskrift.training.plan import BUCKETS, BUCKETS_NOT_COMPILED, Part, Plan, Step, label_size, plan_run
from avskrift.training.windows import ClipSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What a plan hangs on: the data and the options, and how fast this process's device is."""

    clips: Sequence[Clip]
    sizes: Sequence[ClipSize]
    config: TrainingConfig
    model: WhisperConfig
    device: torch.device
    precision: torch.dtype
    world: World

    def choose(self, at_once_seconds: float, *, buckets: int | None = None) -> tuple[Plan, str]:
        """The plan, the same in all processes, and how to compile: ``off``, ``layers`` or ``whole``.

        Few shapes suit a GPU in any case: memory is used again, and steps can be replayed. ``buckets`` are those of the checkpoint
        that is resumed. Another machine may have chosen them, and a step's number means nothing under others.
        """
        if buckets is not None:
            plan = self._plan(at_once_seconds, buckets)
            return plan, self._how_to_compile(plan) if plan.buckets else "off"
        if self.device.type == "cpu" and self.config.compile in ("auto", "off"):
            return self._plan(at_once_seconds, 0), "off"
        plan = self._plan(at_once_seconds, BUCKETS)
        how = self._how_to_compile(plan)
        return (plan if how != "off" else self._plan(at_once_seconds, BUCKETS_NOT_COMPILED)), how

    def mine(self, step: Step) -> Sequence[Part]:
        """This process's parts of a step."""
        return step.parts[self.world.rank :: self.world.size]

    def flops(self, part: Part) -> float:
        """Of the part's own windows at the length that they are padded to; empty rows are no useful work."""
        if not part.windows:
            return 0.0
        labels = [label_size(window, self.sizes) for window in part.windows]
        return training_flops(
            self.model,
            windows=len(part.windows),
            frames=(part.shape or part).samples // HOP_LENGTH,
            tokens=part.shape.tokens if part.shape else max(read for read, _ in labels),
            learnt=sum(learnt for _, learnt in labels),
        )

    def _plan(self, at_once_seconds: float, buckets: int) -> Plan:
        return plan_run(
            self.clips,
            self.sizes,
            self.config,
            at_once_seconds=at_once_seconds,
            processes=self.world.size,
            static=buckets > 0,
            buckets=buckets,
        )

    def _how_to_compile(self, plan: Plan) -> str:
        flops = sum(self.flops(part) for step in plan.steps for part in self.mine(step))
        how = choose_compile(self.config, self.device, self.precision, flops=flops, shapes=len(plan.shapes))
        return str(self.world.from_first(how))  # each process measures its GPU, and one of them decides

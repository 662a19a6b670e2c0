"""Which plan a run follows: the machine chooses for a run that begins, and the checkpoint for one that goes on."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import WhisperConfig

from avskrift.corpus.dataset import Clip
from avskrift.training import planning
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World
from avskrift.training.plan import BUCKETS, BUCKETS_NOT_COMPILED, Plan
from avskrift.training.planning import Planner
from avskrift.training.windows import ClipSize, Window

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_machines_that_compile_or_do_not_and_cpus_would_each_plan_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = _plans_of_three_machines(monkeypatch)
    assert [plan.buckets for plan in plans] == [BUCKETS, BUCKETS_NOT_COMPILED, 0]
    assert len({len(plan.steps) for plan in plans}) == 3


@pytest.mark.parametrize(("device", "how"), [(GPU, "whole"), (GPU, "layers"), (GPU, "off"), (CPU, "off")])
@pytest.mark.parametrize("processes", [1, 2, 8])
def test_a_run_that_goes_on_keeps_its_steps_on_whatever_machine(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, how: str, processes: int
) -> None:
    for before in _plans_of_three_machines(monkeypatch):
        monkeypatch.setattr(planning, "choose_compile", lambda *given, how=how, **more: how)
        after, compiled = _planner(device, processes).choose(90.0, buckets=before.buckets)
        assert after.buckets == before.buckets
        assert _windows(after) == _windows(before)
        assert after.epoch_ends == before.epoch_ends
        assert compiled == (how if before.buckets else "off"), "steps without static shapes cannot be compiled for"


def test_what_compiling_the_steps_of_a_checkpoint_costs_is_weighed_by_their_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[int] = []
    monkeypatch.setattr(planning, "choose_compile", lambda *given, **more: shapes.append(more["shapes"]) or "off")
    for buckets in (BUCKETS, BUCKETS_NOT_COMPILED):
        _planner(GPU).choose(90.0, buckets=buckets)
    assert shapes == [BUCKETS, BUCKETS_NOT_COMPILED]


def _plans_of_three_machines(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    plans = []
    for device, how in ((GPU, "layers"), (GPU, "off"), (CPU, "off")):
        monkeypatch.setattr(planning, "choose_compile", lambda *given, how=how, **more: how)
        plans.append(_planner(device).choose(200.0)[0])
    return plans


def _planner(device: torch.device, processes: int = 1) -> Planner:
    chance = random.Random(1)
    clips = [Clip(clip_id=f"clip-{number}", audio=b"", duration_s=chance.uniform(1, 9), text="") for number in range(600)]
    sizes = [ClipSize(clip.duration_s, 20) for clip in clips]
    config = TrainingConfig(batch_seconds=60)
    return Planner(
        clips=clips,
        sizes=sizes,
        config=config,
        model=WhisperConfig(),
        device=device,
        precision=torch.float32,
        world=_WorldOf(size=processes),
    )


class _WorldOf(World):
    """The first of several processes, of which the others say nothing."""

    def from_first(self, value: object) -> object:
        return value


def _windows(plan: Plan) -> list[list[Window]]:
    return [step.windows for step in plan.steps]

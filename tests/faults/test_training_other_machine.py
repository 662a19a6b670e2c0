"""A job that goes on on another machine: with other steps of its own, in another precision, or from checkpoints of an older release."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from small_training import spoken

from avskrift.corpus.dataset import Dataset
from avskrift.errors import CheckpointError
from avskrift.training import loop, planning
from avskrift.training.checkpoint import Checkpoints, Progress, Tensors
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, train
from avskrift.training.meter import Speed
from avskrift.training.plan import BUCKETS, BUCKETS_NOT_COMPILED, Plan, plan_run

whisper = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

JOB = "a" * 64
TRAINING = TrainingConfig(epochs=2, learning_rate=3e-3, batch_seconds=12, checkpoint_minutes=0, device="cpu", threads=1)


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have sent the logs elsewhere."""
    monkeypatch.setattr(logging.getLogger("avskrift"), "propagate", True)


class _KilledError(BaseException):
    """Stands for the end of the process."""


class _UntilStep(Checkpoints):
    """Checkpoints of a process that dies once it has saved a step; ``told`` changes what they say beside the tensors."""

    def __init__(self, folder: Path, step: int = 0, told: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> None:
        super().__init__(folder, JOB)
        self._dies, self._told = step, told

    def save(
        self, parts: Mapping[str, Tensors], progress: Progress, settings: Mapping[str, Any] | None = None, *, wait: bool = False
    ) -> None:
        super().save(parts, progress, self._told(dict(settings or {})), wait=True)
        if progress.step == self._dies:
            raise _KilledError


@dataclass(frozen=True)
class Job:
    base: Path
    dataset: Dataset

    def train(self, folder: Path, checkpoints: Checkpoints | None = None) -> TrainingResult:
        """What it comes to, but for how long it took."""
        checkpoints = checkpoints or Checkpoints(folder, JOB)
        return replace(train(self.base, self.dataset, TRAINING, checkpoints=checkpoints, out=folder / "model"), speed=Speed())

    def killed(self, folder: Path, step: int, told: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> None:
        with pytest.raises(_KilledError):
            self.train(folder, _UntilStep(folder, step, told))


@pytest.fixture(scope="module")
def job(whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    held = [spoken(f"clip-{number}", seconds=0.5 + 0.05 * number) for number in range(60)]
    return Job(whisper, write_dataset(tmp_path_factory.mktemp("dataset"), {"train": held, "validation": held[:2]}))


class TestOtherSteps:
    """A GPU's plan with few lengths, or with some, and then this machine's, which has no GPU and none."""

    @pytest.fixture(params=[BUCKETS, BUCKETS_NOT_COMPILED])
    def buckets(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    def test_a_run_goes_on_with_the_steps_that_it_began_with_and_ends_bit_for_bit_the_same(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int
    ) -> None:
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        with monkeypatch.context() as gpu:
            _plans_with(gpu, buckets)
            expected = job.train(whole)
            job.killed(killed, 5)
        assert job.train(killed) == expected
        assert _weights(killed) == _weights(whole)
        assert job.train(tmp_path / "here").steps < expected.steps, "other settings, please: both machines plan the same"

    def test_stopped_before_its_last_step_it_does_that_one(self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as gpu:
            _plans_with(gpu, BUCKETS)
            total = job.train(tmp_path / "whole").steps
            job.killed(tmp_path, total - 1)
        assert job.train(tmp_path).steps == total

    def test_killed_again_on_this_machine_it_still_keeps_them(self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as gpu:
            _plans_with(gpu, BUCKETS)
            expected = job.train(tmp_path / "whole")
            job.killed(tmp_path, 2)
        job.killed(tmp_path, 4)
        assert job.train(tmp_path) == expected


class TestCheckpointsOfAnOlderRelease:
    """They hold neither the plan nor the precision."""

    @staticmethod
    def _older(settings: dict[str, Any]) -> dict[str, Any]:
        return {"scaler": settings["scaler"]}

    def test_they_are_resumed(self, job: Job, tmp_path: Path) -> None:
        expected = job.train(tmp_path / "whole")
        job.killed(tmp_path, 3, self._older)
        assert job.train(tmp_path) == expected

    def test_a_step_that_this_machines_plan_does_not_have_is_told_with_what_to_remove(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = job.train(tmp_path / "here").steps
        with monkeypatch.context() as gpu:
            _plans_with(gpu, BUCKETS)
            job.killed(tmp_path, here + 1, self._older)
        folder = re.escape(str(tmp_path / JOB[:16]))
        says = (
            f"^{folder}: they stand at step {here + 1}, and here the run has {here} steps, .*; remove the folder to train from the start$"
        )
        with pytest.raises(CheckpointError, match=says):
            job.train(tmp_path)


def test_checkpoints_of_a_release_that_plans_other_steps_are_refused_and_not_gone_on_with(job: Job, tmp_path: Path) -> None:
    here = job.train(tmp_path / "here").steps

    def planned(settings: dict[str, Any]) -> dict[str, Any]:
        return settings | {"plan": settings["plan"] | {"steps": here + 9}}

    job.killed(tmp_path, 3, planned)
    with pytest.raises(CheckpointError, match=f"they stand at step 3 of {here + 9}, and here the run has {here} steps"):
        job.train(tmp_path)
    assert list(tmp_path.glob("*/step-00000003")), "they are for a person to remove"


class TestAnotherPrecision:
    """``auto`` means another one on another machine. The scale that fp16's gradients have is nothing to the others."""

    @pytest.mark.parametrize("before", [torch.bfloat16, torch.float32])
    def test_from_where_there_is_no_scale_it_goes_on_in_fp16_and_says_so(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: torch.dtype
    ) -> None:
        steps = self._trained(job, tmp_path, monkeypatch, before, torch.float16)
        assert steps == list(range(1, len(steps) + 1))
        (said,) = (record for record in caplog.records if record.message == "training.precision_changed")
        assert said.levelname == "WARNING"
        assert (str(before).removeprefix("torch."), "float16") == tuple(said.__dict__["fields"][name] for name in ("before", "now"))

    def test_from_fp16_it_goes_on_without(self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = self._trained(job, tmp_path, monkeypatch, torch.float16, torch.float32)
        assert steps == list(range(1, len(steps) + 1))

    def test_in_fp16_again_the_scale_is_what_it_was(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(loop, "choose_precision", lambda name, device: torch.float16)
        expected = job.train(tmp_path / "whole")
        job.killed(tmp_path, 3)
        assert job.train(tmp_path) == expected
        assert "training.precision_changed" not in [record.message for record in caplog.records]

    @staticmethod
    def _trained(job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch, before: torch.dtype, now: torch.dtype) -> list[int]:
        """The steps whose loss is known in the end."""
        monkeypatch.setattr(loop, "choose_precision", lambda name, device: before)
        job.killed(folder, 3)
        monkeypatch.setattr(loop, "choose_precision", lambda name, device: now)
        return [step for step, name, _ in job.train(folder).curve if name == "train_loss"]


def _plans_with(patch: pytest.MonkeyPatch, buckets: int) -> None:
    """Plan as a machine does that has a GPU."""

    def planned(*given: Any, static: bool, buckets: int, chosen: int, **more: Any) -> Plan:
        return plan_run(*given, static=True, buckets=chosen, **more)

    patch.setattr(planning, "plan_run", partial(planned, chosen=buckets))


def _weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()

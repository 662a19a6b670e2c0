"""What goes wrong while training: the state is saved or as it was, and the sentence says what to do."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from small_training import spoken

from avskrift.corpus.dataset import Dataset
from avskrift.errors import DiskFullError, PreemptedError, TrainingError
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training import checkpoint, optimisation
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, train
from avskrift.training.meter import Speed
from avskrift.training.report import CURVES_FILE
from avskrift.whisper.transformers_folder import load_model

whisper = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

CPU = torch.device("cpu")
_POSITIONS = "model.encoder.embed_positions.weight"  # never trained
JOB = "a" * 64
TRAINING = TrainingConfig(epochs=2, empty_share=0.0, learning_rate=3e-3, batch_seconds=4, checkpoint_minutes=0, device="cpu", threads=1)
# Where only a signal makes a checkpoint, and chance and an average have a state.
SELDOM = replace(TRAINING, checkpoint_minutes=60, spec_augment_share=0.5, activation_dropout=0.2, speed_share=0.5, ema_decay=0.9)

# A process that gets SIGTERM at a moment of its own; the rest is the step as it is.
STEP = """
import os, signal, sys
from avskrift.steps.boundary import boundary
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training import optimisation, validation
from avskrift.training.config import TrainingConfig

dataset, base_model, out, report, checkpoints, training, moment = sys.argv[1:]
steps, hears = optimisation.Optimisation.step, validation._hear

def step(self, batches, *, number, rate):
    if moment == f"step {number + 1}":
        os.kill(os.getpid(), signal.SIGTERM)
    return steps(self, batches, number=number, rate=rate)

def hear(*given):
    if moment == "validation":
        os.kill(os.getpid(), signal.SIGTERM)
    return hears(*given)

optimisation.Optimisation.step, validation._hear = step, hear
with boundary("fine_tune"):
    settings = eval(training, {"TrainingConfig": TrainingConfig})
    run(Config(dataset=dataset, base_model=base_model, out=out, report=report, checkpoints=checkpoints, training=settings))
"""


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have sent the logs elsewhere."""
    monkeypatch.setattr(logging.getLogger("avskrift"), "propagate", True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    held = [spoken(f"clip-{number}", seconds=0.6 + 0.1 * number) for number in range(12)]
    # Two batches to validate on, so that there is something left to stop before.
    validation = [spoken(f"heard-{number}", seconds=0.4) for number in range(20)]
    return write_dataset(tmp_path_factory.mktemp("dataset"), {"train": held, "validation": validation})


@dataclass(frozen=True)
class Job:
    base: Path
    dataset: Dataset
    config: TrainingConfig

    def train(self, folder: Path, checkpoints: Checkpoints | None = None) -> TrainingResult:
        """What it comes to, but for how long it took."""
        checkpoints = checkpoints or Checkpoints(folder / "checkpoints", JOB)
        return replace(train(self.base, self.dataset, self.config, checkpoints=checkpoints, out=folder / "model"), speed=Speed())


@pytest.fixture(scope="module")
def job(whisper: Path, dataset: Dataset) -> Job:
    return Job(whisper, dataset, TRAINING)


@dataclass(frozen=True)
class Whole:
    """A job that met no fault, and what it came to."""

    result: TrainingResult
    weights: bytes


@pytest.fixture(scope="module")
def whole(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    result = job.train(folder)
    return Whole(result, (folder / "model" / "model.safetensors").read_bytes())


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the digest of its weights, and its curve as it was written."""

    weights: str
    curve: str

    @property
    def first_validation(self) -> int:
        points = map(json.loads, self.curve.splitlines())
        return next(int(point["step"]) for point in points if point["name"] == "validation_wer")


@pytest.fixture(scope="module")
def uninterrupted(whisper: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    config = _config(whisper, dataset, tmp_path_factory.mktemp("uninterrupted"))
    run(config)
    return _outcome(config)


class TestPreemption:
    @pytest.mark.parametrize("moment", ["step 2", "validation"])
    def test_sigterm_saves_the_very_step_and_the_same_command_goes_on_bit_for_bit(
        self, whisper: Path, dataset: Dataset, tmp_path: Path, uninterrupted: Outcome, moment: str
    ) -> None:
        at = 2 if moment == "step 2" else uninterrupted.first_validation
        config = _config(whisper, dataset, tmp_path)
        ended = _run_until(config, moment)
        assert ended.returncode == PreemptedError.exit_code == 42, ended.stderr
        assert re.search(rf"stopped by SIGTERM after step {at} of \d+, which is saved; run the same command again", ended.stderr)
        assert [path.name for path in (tmp_path / "checkpoints").glob("*/step-*")] == [f"step-{at:08}"]
        assert not (tmp_path / "model").exists()
        assert list(tmp_path.rglob(".*.tmp-*")) == []

        run(config)
        assert _outcome(config) == uninterrupted


class TestWhatIsNotFinite:
    """It is met in the third step: two are done and saved before."""

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_stops_training_and_names_the_clips_and_the_weights_are_those_of_before(
        self, job: Job, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
    ) -> None:
        monkeypatch.setattr(optimisation, "whisper_loss", _once(3, lambda loss: loss * value))
        self._stops(job, whole, tmp_path, monkeypatch, f"the loss became {value} on clips ")

    def test_a_gradient_stops_it_too_though_the_loss_is_finite(
        self, job: Job, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(optimisation, "whisper_loss", _once(3, _with_endless_gradient))
        self._stops(job, whole, tmp_path, monkeypatch, "the gradient became nan on clips ")

    @staticmethod
    def _stops(job: Job, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
        weights: list[dict[str, torch.Tensor]] = []
        steps = optimisation.Optimisation.step

        def step(self: optimisation.Optimisation, *given: Any, **more: Any) -> torch.Tensor:
            outcome = steps(self, *given, **more)
            weights.append({name: weight.detach().clone() for name, weight in self.model.named_parameters()})
            return outcome

        monkeypatch.setattr(optimisation.Optimisation, "step", step)
        with pytest.raises(TrainingError, match=says) as refused:
            job.train(tmp_path)
        named = str(refused.value).split("clips ")[1].split(";")[0].split(", ")
        assert {clip.clip_id for clip in job.dataset.clips("train")} >= set(named)
        assert "lower the learning rate" in str(refused.value)
        assert all(torch.equal(weights[1][name], weight) for name, weight in weights[2].items()), "the third step changed nothing"
        assert not all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())
        assert _newest(tmp_path) == "step-00000002"
        assert not (tmp_path / "model").exists()
        monkeypatch.undo()  # and where it was a whim of the machine, training goes on
        assert job.train(tmp_path) == whole.result


@pytest.fixture(scope="module")
def large(whisper: Path, dataset: Dataset) -> Job:
    """Parts of many windows. At a high rate Adam would make a whole step of how sums are rounded."""
    return Job(whisper, dataset, replace(TRAINING, batch_seconds=12, packed_share=0, learning_rate=1e-4, epochs=1))


class TestOutOfMemory:
    """A loss that takes so many windows at once and no more stands for a GPU's memory."""

    @pytest.mark.parametrize(("windows", "halvings"), [(4, 1), (2, 2)])
    def test_what_is_taken_at_once_is_halved_and_what_comes_of_it_is_the_same(
        self, large: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, windows: int, halvings: int
    ) -> None:
        expected = large.train(tmp_path / "roomy")
        taken: list[int] = []
        monkeypatch.setattr(optimisation, "whisper_loss", _memory_of(windows, taken))
        result = large.train(tmp_path / "narrow")
        assert max(taken) <= windows
        assert [record.message for record in caplog.records].count("training.out_of_memory") == halvings, "it is not tried again each step"
        assert [value for _, _, value in result.curve] == pytest.approx([value for _, _, value in expected.curve], rel=1e-4)
        _same_weights(tmp_path / "roomy", tmp_path / "narrow")

    def test_gradients_are_those_of_the_whole_batch(self, large: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        norms: list[list[float]] = []
        for windows in (100, 4, 2):
            norms.append([])
            monkeypatch.setattr(optimisation, "whisper_loss", _memory_of(windows, []))
            clip = optimisation._GradientBuffer.clip

            def clipped(self: Any, most: float, clip: Any = clip, norms: list[float] = norms[-1]) -> torch.Tensor:
                norm: torch.Tensor = clip(self, most)
                norms.append(norm.item())
                return norm

            with monkeypatch.context() as patch:
                patch.setattr(optimisation._GradientBuffer, "clip", clipped)
                large.train(tmp_path / f"{windows}")
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)
        assert norms[2] == pytest.approx(norms[0], rel=1e-4)

    def test_where_a_quarter_does_not_fit_it_is_said_what_to_set(self, large: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(optimisation, "whisper_loss", _memory_of(1, []))
        with pytest.raises(TrainingError, match=r"does not hold a quarter of \d+ s of audio; set micro_batch_seconds lower"):
            large.train(tmp_path)


class TestCheckpointsThatAreBroken:
    def test_where_the_newest_is_cut_short_the_one_before_is_used_and_training_ends_the_same(
        self, job: Job, whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(optimisation, "whisper_loss", _once(5, lambda loss: loss * float("nan")))
            with pytest.raises(TrainingError):
                job.train(tmp_path)
        assert _newest(tmp_path) == "step-00000004"
        (newest,) = (tmp_path / "checkpoints").glob("*/step-00000004/weights.safetensors")
        os.truncate(newest, newest.stat().st_size // 2)
        assert job.train(tmp_path) == whole.result
        assert "checkpoint.unusable" in [record.message for record in caplog.records]
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == whole.weights


class TestAFullDisk:
    def test_a_checkpoint_that_does_not_fit_stops_training_and_the_one_before_is_resumed(
        self, job: Job, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoint, "save_file", _until_full(5))
        with pytest.raises(DiskFullError, match="no space left on the disk that holds"):
            job.train(tmp_path)
        monkeypatch.undo()
        assert _newest(tmp_path) == "step-00000002", "two files each: the third lacks its second"
        assert list((tmp_path / "checkpoints").rglob(".*.tmp-*")) == []
        assert job.train(tmp_path) == whole.result
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == whole.weights

    def test_a_disk_that_is_full_for_real_does_so_too(self, job: Job, whole: Whole, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        trained = sum(weights.numel() for name, weights in load_model(job.base, CPU).named_parameters() if name != _POSITIONS)
        room = f"size={int(2.6 * 3 * 4 * trained)}"  # for two checkpoints of weights and AdamW's two moments
        if subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", str(disk)], capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a tmpfs")
        try:
            with pytest.raises(DiskFullError, match="no space left on the disk that holds"):
                job.train(tmp_path, Checkpoints(disk, JOB))
            assert sorted(path.name for path in disk.glob("*/step-*")) == ["step-00000001", "step-00000002"]
            subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
            assert job.train(tmp_path, Checkpoints(disk, JOB)) == whole.result
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def _once(number: int, change: Any) -> Any:
    """The loss, changed when it is asked for the nth time."""
    asked: list[int] = []
    real = optimisation.whisper_loss

    def loss(*given: Any, **more: Any) -> torch.Tensor:
        asked.append(1)
        value: torch.Tensor = real(*given, **more)
        return change(value) if len(asked) == number else value

    return loss


class _EndlessGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * float("inf")


def _with_endless_gradient(loss: torch.Tensor) -> torch.Tensor:
    changed: torch.Tensor = _EndlessGradient.apply(loss)  # type: ignore[no-untyped-call]
    return changed


def _memory_of(windows: int, taken: list[int]) -> Any:
    real = optimisation.whisper_loss if not hasattr(optimisation.whisper_loss, "real") else optimisation.whisper_loss.real

    def loss(model: Any, features: torch.Tensor, *given: Any, **more: Any) -> torch.Tensor:
        if features.shape[0] > windows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        taken.append(features.shape[0])
        value: torch.Tensor = real(model, features, *given, **more)
        return value

    loss.real = real  # type: ignore[attr-defined]
    return loss


# What safetensors 0.8 says when a file system is full, recorded on a tmpfs of 1 MB: not an OSError.
_FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def _until_full(files: int) -> Any:
    written: list[Path] = []

    def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
        if len(written) == files:
            file.write_bytes(b"half")
            raise _FULL
        written.append(file)
        save_file(tensors, file)

    return save


def _same_weights(one: Path, other: Path) -> None:
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-5)


def _newest(folder: Path) -> str:
    return max(path.name for path in (folder / "checkpoints").glob("*/step-*"))


def _config(base: Path, dataset: Dataset, folder: Path) -> Config:
    return Config(
        dataset=dataset.folder,
        base_model=str(base),
        out=folder / "model",
        report=folder / "model-training",
        checkpoints=folder / "checkpoints",
        training=SELDOM,
    )


def _run_until(config: Config, moment: str) -> subprocess.CompletedProcess[str]:
    paths = [str(value) for value in (config.dataset, config.base_model, config.out, config.report, config.checkpoints)]
    command = [sys.executable, "-c", STEP, *paths, repr(config.training), moment]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _outcome(config: Config) -> Outcome:
    weights = (Path(config.out) / "model.safetensors").read_bytes()
    return Outcome(hashlib.sha256(weights).hexdigest(), (Path(config.report) / CURVES_FILE).read_text(encoding="utf-8"))

"""Training that is killed at any moment and started again ends with the weights and the curve of a run that never was."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from small_training import spoken

from avskrift.corpus.dataset import Dataset
from avskrift.errors import InterruptedRunError
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training.checkpoint import Checkpoints, Progress, Tensors
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, train
from avskrift.training.meter import Speed
from avskrift.training.report import CURVES_FILE

smallest = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

JOB = "a" * 64
# Two epochs; a checkpoint after every step; one thread, so that sums are made in one order.
TRAINING = TrainingConfig(epochs=2, empty_share=0.0, learning_rate=3e-3, batch_seconds=12, checkpoint_minutes=0, device="cpu", threads=1)
TWENTY = TrainingConfig(
    epochs=3, max_steps=20, learning_rate=3e-3, batch_seconds=2.5, validate_steps=9, checkpoint_minutes=0, device="cpu", threads=1
)
# All that draws from chance or has a state of its own.
EVERYTHING = replace(
    TWENTY,
    schedule="cosine",
    empty_share=0.2,
    previous_text_share=0.3,
    bpe_dropout=0.2,
    spec_augment_share=0.8,
    speed_share=0.5,
    gain_share=0.5,
    noise_share=0.5,
    label_smoothing=0.1,
    activation_dropout=0.3,
    ema_decay=0.9,
    micro_batch_seconds=2,
)
ADAPTERS = replace(EVERYTHING, lora_rank=2, ema_decay=0)

STEP = """
import sys
from avskrift.steps.boundary import boundary
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training.config import TrainingConfig

dataset, base_model, out, report, checkpoints, training = sys.argv[1:]
with boundary("fine_tune"):
    settings = eval(training, {"TrainingConfig": TrainingConfig})
    run(Config(dataset=dataset, base_model=base_model, out=out, report=report, checkpoints=checkpoints, training=settings))
"""


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the digest of its weights, and its curve as it was written."""

    weights: str
    curve: str


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    held = [spoken(f"clip-{number}", seconds=0.6 + 0.05 * number) for number in range(18)]
    return write_dataset(tmp_path_factory.mktemp("few-clips"), {"train": held, "validation": held[:1]})


@pytest.fixture(scope="module")
def uninterrupted(smallest: Path, few_clips: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    config = _config(smallest, few_clips.folder, tmp_path_factory.mktemp("uninterrupted"))
    run(config)
    return _outcome(config)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_was_stopped_leaves_no_model_and_goes_on_to_the_very_same_one(
    smallest: Path, few_clips: Dataset, tmp_path: Path, uninterrupted: Outcome, number: signal.Signals
) -> None:
    config = _config(smallest, few_clips.folder, tmp_path)
    process = _start(config)
    try:
        _wait_for_checkpoint(process, tmp_path / "checkpoints", step=1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else InterruptedRunError.exit_code)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model-training").exists()
    if number != signal.SIGKILL:
        assert "Traceback" not in said
        assert "run the same command again" in said
        assert _temporaries(tmp_path) == []

    run(config)
    assert _outcome(config) == uninterrupted
    assert _temporaries(tmp_path) == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


class _KilledError(BaseException):
    """Stands for the end of the process: nothing in the code under test may catch it."""


class _Mortal(Checkpoints):
    """Checkpoints of a process that dies at a moment; they remember what the state was after each step."""

    def __init__(self, folder: Path, dies: str = "") -> None:
        super().__init__(folder, JOB)
        self._dies, self._bests = dies, 0
        self.states: dict[int, str] = {}

    def save(
        self, parts: Mapping[str, Tensors], progress: Progress, settings: Mapping[str, Any] | None = None, *, wait: bool = False
    ) -> None:
        self._die_if(f"before checkpoint {progress.step}")
        self.states[progress.step] = _state(parts)
        super().save(parts, progress, settings, wait=wait)
        self._die_if(f"after checkpoint {progress.step}")

    def save_best(self, weights: Tensors, step: int) -> str:
        self._bests += 1
        self._die_if(f"before best {self._bests}")
        sha256 = super().save_best(weights, step)
        self._die_if(f"after best {self._bests}")
        return sha256

    def best(self, progress: Progress) -> dict[str, torch.Tensor]:
        weights = super().best(progress)
        self._die_if("after the training")
        return weights

    def _die_if(self, moment: str) -> None:
        if moment == self._dies:
            raise _KilledError(moment)


@dataclass(frozen=True)
class _Small:
    """A short job, and what it comes to: its result, its weights, and the digest of the state after each step."""

    base: Path
    dataset: Dataset
    config: TrainingConfig
    result: TrainingResult
    weights: bytes
    states: dict[int, str]

    def train(self, checkpoints: Checkpoints, out: Path) -> TrainingResult:
        return replace(train(self.base, self.dataset, self.config, checkpoints=checkpoints, out=out), speed=Speed())

    def killed(self, folder: Path, moment: str) -> dict[int, str]:
        """The states up to its end."""
        checkpoints = _Mortal(folder, moment)
        with pytest.raises(_KilledError):
            self.train(checkpoints, folder / "model")
        return checkpoints.states


def _job(base: Path, dataset: Dataset, config: TrainingConfig, folder: Path) -> _Small:
    checkpoints = _Mortal(folder)
    result = train(base, dataset, config, checkpoints=checkpoints, out=folder / "model")
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return _Small(base, dataset, config, replace(result, speed=Speed()), weights, checkpoints.states)


@pytest.fixture(scope="module")
def everything(smallest: Path, few_clips: Dataset, tmp_path_factory: pytest.TempPathFactory) -> _Small:
    return _job(smallest, few_clips, EVERYTHING, tmp_path_factory.mktemp("everything"))


@pytest.mark.parametrize("step", range(1, 21))
def test_killed_at_any_of_twenty_steps_it_goes_on_bit_for_bit(everything: _Small, tmp_path: Path, step: int) -> None:
    """Weights, optimizer, average and PyTorch's random state after every step are those of the run that was not killed."""
    before = everything.killed(tmp_path, f"before checkpoint {step}")
    assert list(before) == list(range(1, step))
    checkpoints = _Mortal(tmp_path)
    assert everything.train(checkpoints, tmp_path / "model") == everything.result
    assert list(checkpoints.states) == list(range(step, 21)), "what was saved is not done again"
    assert before | checkpoints.states == everything.states
    assert _same_bytes(tmp_path / "model", everything)


@pytest.mark.parametrize("config", [TWENTY, ADAPTERS], ids=["plain", "adapters"])
def test_killed_at_each_of_twenty_steps_it_ends_bit_for_bit(
    smallest: Path, few_clips: Dataset, tmp_path: Path, config: TrainingConfig
) -> None:
    job, states = _job(smallest, few_clips, config, tmp_path / "whole"), dict[int, str]()
    for step in range(1, 21):
        states |= job.killed(tmp_path, f"after checkpoint {step}")
    assert job.train(Checkpoints(tmp_path, JOB), tmp_path / "model") == job.result
    assert states == job.states
    assert _same_bytes(tmp_path / "model", job)


def test_the_states_of_twenty_steps_are_all_different(everything: _Small) -> None:
    assert list(everything.states) == list(range(1, 21))
    assert len(set(everything.states.values())) == 20


@pytest.fixture(scope="module")
def small(smallest: Path, few_clips: Dataset, tmp_path_factory: pytest.TempPathFactory) -> _Small:
    return _job(smallest, few_clips, replace(TRAINING, batch_seconds=6), tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(
    "moment",
    [
        "before checkpoint 1",
        "before best 1",
        "after best 1",
        "after checkpoint {epoch}",
        "before best 2",
        "after checkpoint {total}",
        "after the training",
    ],
)
def test_killed_around_a_validation_it_is_neither_lost_nor_counted_twice(small: _Small, tmp_path: Path, moment: str) -> None:
    epoch, total = (step for step, name, _ in small.result.curve if name == "validation_wer")
    assert 1 < epoch < total
    assert moment != "before best 2" or small.result.best_step == total, "other settings, please: the first epoch is the best"
    small.killed(tmp_path, moment.format(epoch=epoch, total=total))
    assert small.train(Checkpoints(tmp_path, JOB), tmp_path / "model") == small.result
    assert _same_bytes(tmp_path / "model", small)


def test_killed_again_and_again_it_still_ends_the_same(small: _Small, tmp_path: Path) -> None:
    for step in range(1, 4):  # each attempt gets one step further
        assert list(small.killed(tmp_path, f"after checkpoint {step}")) == [step]
    assert small.train(Checkpoints(tmp_path, JOB), tmp_path / "model") == small.result
    assert _same_bytes(tmp_path / "model", small)


def test_a_short_run_makes_no_checkpoint_where_they_are_far_apart(small: _Small, tmp_path: Path) -> None:
    seldom = replace(small, config=replace(small.config, checkpoint_minutes=60))
    seldom.train(_Mortal(tmp_path, "before checkpoint 1"), tmp_path / "model")
    assert not list(tmp_path.rglob("step-*"))


def _state(parts: Mapping[str, Tensors]) -> str:
    """The sha256 of all tensors and of PyTorch's random state."""
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    for part, tensors in sorted(parts.items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{part}/{name}".encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _same_bytes(model: Path, job: _Small) -> bool:
    return (model / "model.safetensors").read_bytes() == job.weights


def _config(base: Path, dataset: Path, folder: Path) -> Config:
    return Config(
        dataset=dataset,
        base_model=str(base),
        out=folder / "model",
        report=folder / "model-training",
        checkpoints=folder / "checkpoints",
        training=replace(TRAINING, epochs=5, batch_seconds=2.5),  # long enough to be met while it runs
    )


def _start(config: Config) -> subprocess.Popen[str]:
    paths = [str(value) for value in (config.dataset, config.base_model, config.out, config.report, config.checkpoints)]
    return subprocess.Popen(
        [sys.executable, "-c", STEP, *paths, repr(config.training)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _wait_for_checkpoint(process: subprocess.Popen[str], folder: Path, *, step: int) -> None:
    while not any(int(path.name.split("-")[1]) >= step for path in folder.glob("*/step-*")):
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()[1]}"
        time.sleep(0.01)


def _outcome(config: Config) -> Outcome:
    weights = (Path(config.out) / "model.safetensors").read_bytes()
    return Outcome(hashlib.sha256(weights).hexdigest(), (Path(config.report) / CURVES_FILE).read_text(encoding="utf-8"))


def _temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*.tmp-*")]

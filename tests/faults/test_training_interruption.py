"""Training that is killed at any moment and started again ends with the weights and the curve of a run that never was."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch.optim import Optimizer

from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.errors import InterruptedRunError
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, train
from avskrift.training.report import CURVES_FILE

JOB = "a" * 64
# Two epochs; a checkpoint after every step; one thread, so that sums are made in one order.
TRAINING = TrainingConfig(epochs=2, learning_rate=3e-3, batch_seconds=12, checkpoint_minutes=0, device="cpu", threads=1)

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


@pytest.fixture(scope="module", autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the digest of its weights, and its curve as it was written."""

    weights: str
    curve: str


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _cut_down(tiny_dataset, tmp_path_factory.mktemp("cut-down") / "dataset", train=12, validation=2)


@pytest.fixture(scope="module")
def uninterrupted(tiny_whisper: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    config = _config(tiny_whisper, dataset, tmp_path_factory.mktemp("uninterrupted"))
    run(config)
    return _outcome(config)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_was_stopped_leaves_no_model_and_goes_on_to_the_very_same_one(
    tiny_whisper: Path, dataset: Path, tmp_path: Path, uninterrupted: Outcome, number: signal.Signals
) -> None:
    config = _config(tiny_whisper, dataset, tmp_path)
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
    """Checkpoints of a process that dies right before or right after it saves for the nth time."""

    def __init__(self, folder: Path, dies: str) -> None:
        super().__init__(folder, JOB)
        self._dies = dies
        self._saved = {"checkpoint": 0, "best": 0}

    def save(self, model: torch.nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        moment = self._moment("checkpoint")
        self._die_if(f"before {moment}")
        super().save(model, optimizer, progress)
        self._die_if(f"after {moment}")

    def save_best(self, model: torch.nn.Module, step: int) -> str:
        moment = self._moment("best")
        self._die_if(f"before {moment}")
        sha256 = super().save_best(model, step)
        self._die_if(f"after {moment}")
        return sha256

    def load_best(self, model: torch.nn.Module, progress: Progress) -> None:
        super().load_best(model, progress)
        self._die_if("after the training")

    def _moment(self, what: str) -> str:
        self._saved[what] += 1
        return f"{what} {self._saved[what]}"

    def _die_if(self, moment: str) -> None:
        if moment == self._dies:
            raise _KilledError(moment)


@dataclass(frozen=True)
class _Small:
    """A job of two short epochs, and what it comes to."""

    base: Path
    dataset: Dataset
    config: TrainingConfig
    result: TrainingResult
    weights: bytes

    def train(self, checkpoints: Checkpoints, out: Path) -> TrainingResult:
        return train(self.base, self.dataset, self.config, checkpoints=checkpoints, out=out)


@pytest.fixture(scope="module")
def small(tiny_whisper: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> _Small:
    folder = tmp_path_factory.mktemp("small")
    dataset = open_dataset(_cut_down(tiny_dataset, folder / "dataset", train=6, validation=2))
    config = replace(TRAINING, batch_seconds=9)
    result = train(tiny_whisper, dataset, config, checkpoints=Checkpoints(folder, JOB), out=folder / "model")
    return _Small(tiny_whisper, dataset, config, result, (folder / "model" / "model.safetensors").read_bytes())


@pytest.mark.parametrize(
    "moment",
    [
        "before checkpoint 1",
        "after best 1",
        "before checkpoint {epoch}",
        "before checkpoint {total}",
        "after checkpoint {total}",
        "after the training",
    ],
)
def test_killed_around_a_validation_it_is_neither_lost_nor_counted_twice(small: _Small, tmp_path: Path, moment: str) -> None:
    epoch, total = (step for step, name, _ in small.result.curve if name == "validation_wer")
    assert 1 < epoch < total
    with pytest.raises(_KilledError):
        small.train(_Mortal(tmp_path, moment.format(epoch=epoch, total=total)), tmp_path / "model")
    assert small.train(Checkpoints(tmp_path, JOB), tmp_path / "model") == small.result
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == small.weights


def test_killed_again_and_again_it_still_ends_the_same(small: _Small, tmp_path: Path) -> None:
    for _ in range(2):  # each attempt gets one step further
        with pytest.raises(_KilledError):
            small.train(_Mortal(tmp_path, "after checkpoint 1"), tmp_path / "model")
    assert small.train(Checkpoints(tmp_path, JOB), tmp_path / "model") == small.result
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == small.weights


def test_a_short_run_makes_no_checkpoint_where_they_are_far_apart(small: _Small, tmp_path: Path) -> None:
    seldom = replace(small, config=replace(small.config, checkpoint_minutes=60))
    seldom.train(_Mortal(tmp_path, "before checkpoint 1"), tmp_path / "model")
    assert not list(tmp_path.rglob("step-*"))


def _cut_down(dataset: Path, folder: Path, **clips: int) -> Path:
    """A copy of ``dataset`` with the first so many clips of a split."""
    shutil.copytree(dataset, folder)
    for split, count in clips.items():
        (shard,) = folder.glob(f"{split}-*.parquet")
        pq.write_table(pq.read_table(shard).slice(0, count), shard)
    return folder


def _config(base: Path, dataset: Path, folder: Path) -> Config:
    return Config(
        dataset=dataset,
        base_model=str(base),
        out=folder / "model",
        report=folder / "model-training",
        checkpoints=folder / "checkpoints",
        training=TRAINING,
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

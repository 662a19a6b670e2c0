"""Training meets a clip as often as its weight says, plans all its epochs so, and validates on every clip once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_training
from dataset_folder import write_dataset
from small_training import spoken

from avskrift.corpus.dataset import Dataset
from avskrift.errors import TrainingError
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.training.config import TrainingConfig, learning_rate_factor
from avskrift.training.loop import TrainingResult, train
from avskrift.training.meter import Speed
from avskrift.training.windows import turns_of

whisper = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

JOB = "a" * 64
# A batch holds one clip, so that a step is a turn.
ONE_BY_ONE = TrainingConfig(epochs=3, learning_rate=3e-3, batch_seconds=0.5, packed_share=0, device="cpu", threads=1)
WEIGHTS = {"a": 2.0, "b": 0.5, "c": 1.0, "d": 0.25}


class StoppedError(BaseException):
    """Stands for the end of the process."""


class Stopping(Checkpoints):
    """Checkpoints of a process that ends when it has saved step ``at``."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, JOB)
        self._at = at

    def save(self, parts: Any, progress: Progress, settings: Any = None, *, wait: bool = False) -> None:
        super().save(parts, progress, settings, wait=wait)
        if progress.step == self._at:
            raise StoppedError


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    train_clips = [spoken(clip_id, weight=weight) for clip_id, weight in WEIGHTS.items()]
    return write_dataset(tmp_path_factory.mktemp("weighted"), {"train": train_clips, "validation": [spoken("e"), spoken("f")]})


def test_steps_and_schedule_are_those_of_all_epochs_though_these_differ_in_length(whisper: Path, weighted: Dataset, tmp_path: Path) -> None:
    lengths = [sum(turns_of(*clip, seed=ONE_BY_ONE.seed, epoch=epoch) for clip in WEIGHTS.items()) for epoch in range(3)]
    assert len(set(lengths)) > 1, "another seed, please: all epochs are of one length"
    result = _train(whisper, weighted, Checkpoints(tmp_path, JOB))
    total = sum(lengths)
    assert (result.steps, result.epochs, result.train_clips) == (total, 3, 4)
    assert [step for step, name, _ in result.curve if name == "validation_wer"] == [lengths[0], lengths[0] + lengths[1], total]
    rates = [value / ONE_BY_ONE.learning_rate for _, name, value in result.curve if name == "learning_rate"]
    assert rates == pytest.approx([learning_rate_factor(step, total=total, warmup_share=0.1) for step in range(total)])


def test_a_run_that_was_stopped_in_its_second_epoch_goes_on_to_the_very_same_curve(
    whisper: Path, weighted: Dataset, tmp_path: Path
) -> None:
    whole = _train(whisper, weighted, Checkpoints(tmp_path / "whole", JOB))
    with pytest.raises(StoppedError):
        _train(whisper, weighted, Stopping(tmp_path / "stopped", at=5), checkpoint_minutes=0)
    assert _train(whisper, weighted, Checkpoints(tmp_path / "stopped", JOB)).curve == whole.curve


def test_validation_knows_no_weights(whisper: Path, weighted: Dataset, tmp_path: Path) -> None:
    heavy = [replace(clip, weight=50.0) for clip in weighted.clips("validation")]
    other = write_dataset(tmp_path / "other", {"train": list(weighted.clips("train")), "validation": heavy})
    plain = _train(whisper, weighted, Checkpoints(tmp_path / "1", JOB), max_steps=2)
    assert _train(whisper, other, Checkpoints(tmp_path / "2", JOB), max_steps=2) == plain


def test_weights_so_small_that_no_epoch_meets_a_clip_are_refused(whisper: Path, tmp_path: Path) -> None:
    light = write_dataset(tmp_path / "light", {"train": [spoken("a", weight=0.001)], "validation": [spoken("e")]})
    with pytest.raises(TrainingError, match="1 epochs meet none of the train clips, so small are their weights"):
        _train(whisper, light, Checkpoints(tmp_path, JOB), epochs=1)


def _train(base: Path, dataset: Dataset, checkpoints: Checkpoints, **changes: Any) -> TrainingResult:
    """What it comes to, but for how long it took."""
    config = replace(ONE_BY_ONE, **changes)
    return replace(train(base, dataset, config, checkpoints=checkpoints, out=dataset.folder.parent / "model"), speed=Speed())

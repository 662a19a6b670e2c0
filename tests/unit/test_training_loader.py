"""Batches come in the plan's order, the same from any number of workers and from wherever one starts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from small_training import spoken

from avskrift.errors import DatasetError
from avskrift.training.clips import StoredClips
from avskrift.training.config import TrainingConfig
from avskrift.training.examples import Batch, BatchMaker, measure
from avskrift.training.loader import batches
from avskrift.training.plan import Part, plan_run
from avskrift.whisper.tokens import WhisperTokens

whisper = small_training.smallest_whisper

CPU = torch.device("cpu")
# All that is left to chance.
CONFIG = TrainingConfig(
    batch_seconds=4,
    epochs=2,
    empty_share=0.3,
    previous_text_share=0.5,
    bpe_dropout=0.3,
    speed_share=0.5,
    gain_share=0.5,
    noise_share=0.5,
    seed=3,
)
Parts = Sequence[tuple[int, Part]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> StoredClips:
    held = [spoken(f"clip-{number}", seconds=0.4 + 0.1 * number) for number in range(10)]
    return StoredClips(write_dataset(tmp_path_factory.mktemp("loaded"), {"train": held}), "train")


@pytest.fixture(scope="module")
def maker(clips: StoredClips, whisper: Path) -> BatchMaker:
    return BatchMaker(clips, whisper / "tokenizer.json", CONFIG)


@pytest.fixture(scope="module")
def parts(clips: StoredClips, whisper: Path) -> Parts:
    sizes = measure(clips.described, WhisperTokens(whisper / "tokenizer.json"))
    plan = plan_run(clips.described, sizes, CONFIG, at_once_seconds=3.0, processes=1, static=False)
    return [(number, part) for number, step in enumerate(plan.steps) for part in step.parts]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_any_number_of_workers_makes_the_same_batches(maker: BatchMaker, parts: Parts) -> None:
    made = [_all(maker, parts, workers) for workers in (0, 1, 3)]
    assert len(made[0]) == len(parts) > 6
    for other in made[1:]:
        assert all(_same(*pair) for pair in zip(made[0], other, strict=True))


def test_wherever_one_starts_the_batches_from_there_on_are_the_same(maker: BatchMaker, parts: Parts) -> None:
    whole = _all(maker, parts, 0)
    for start in (1, len(parts) // 2, len(parts) - 1):
        assert all(_same(*pair) for pair in zip(whole[start:], _all(maker, parts[start:], 1), strict=True))
    # As the second of two processes has them.
    assert all(_same(*pair) for pair in zip(whole[1::2], _all(maker, parts[1::2], 0), strict=True))


def test_a_windows_augmentation_does_not_hang_on_how_its_step_is_cut(clips: StoredClips, maker: BatchMaker, whisper: Path) -> None:
    sizes = measure(clips.described, WhisperTokens(whisper / "tokenizer.json"))
    cuts = [(3.0, 1), (3.0, 2), (1.5, 1)]
    plans = [plan_run(clips.described, sizes, CONFIG, at_once_seconds=most, processes=count, static=False) for most, count in cuts]
    assert len({len(plan.steps[0].parts) for plan in plans}) > 1
    heard = [
        [row.tolist() for part in plan.steps[0].parts if part.windows for row in maker.make(part, seed=(3, 0)).samples] for plan in plans
    ]
    assert heard[0] == heard[1] == heard[2]


def test_another_seed_makes_others(maker: BatchMaker, parts: Parts) -> None:
    with batches(parts, maker, seed=CONFIG.seed + 1, workers=0, device=CPU) as made:
        assert not all(_same(*pair) for pair in zip(_all(maker, parts, 0), made, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_decoded_is_said_by_name_after_the_batches_before_it(
    clips: StoredClips, whisper: Path, parts: Parts, workers: int
) -> None:
    torn = next(index for _, part in parts[2:] for window in part.windows for index in window.clips)
    held = [replace(clip, audio=clip.audio[:40]) if index == torn else clip for index, clip in enumerate(clips)]
    maker = BatchMaker(held, whisper / "tokenizer.json", CONFIG)
    whole = [(number, part) for number, part in parts if not any(torn in window.clips for window in part.windows)]
    broken = next(part for part in parts if part not in whole)
    met: list[Batch] = []
    with (
        pytest.raises(DatasetError, match=f"clip clip-{torn}: its audio cannot be decoded"),
        batches([*whole[:2], broken, *whole[2:]], maker, seed=3, workers=workers, device=CPU) as made,
    ):
        met.extend(made)
    assert len(met) == 2
    assert multiprocessing.active_children() == []


def test_workers_end_when_nobody_wants_more_batches(maker: BatchMaker, parts: Parts) -> None:
    with batches(parts, maker, seed=3, workers=2, device=CPU) as made:
        next(made)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def _all(maker: BatchMaker, parts: Parts, workers: int) -> list[Batch]:
    with batches(parts, maker, seed=CONFIG.seed, workers=workers, device=CPU) as made:
        return list(made)


def _same(one: Batch, other: Batch) -> bool:
    tensors = ("samples", "inputs", "positions", "targets")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and one.share == other.share

"""Batches in the order of the plan, made by worker processes ahead of the step that needs them."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from avskrift.cores import available_cores
from avskrift.errors import AvskriftError
from avskrift.training.examples import Batch, BatchMaker
from avskrift.training.plan import Part

_PREFETCHED = 4  # batches that each worker has ready
_MOST_WORKERS = 14  # beyond that a GPU is fed in any case


def worker_count(configured: int, device: torch.device, processes: int) -> int:
    """How many processes decode for each training process: none beside a CPU that trains, all its cores but one beside a GPU."""
    if configured >= 0:
        return configured
    if device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, available_cores() // processes - 1))


@contextmanager
def batches(
    parts: Sequence[tuple[int, Part]], maker: BatchMaker, *, seed: int, workers: int, device: torch.device
) -> Iterator[Iterator[Batch]]:
    """Batches of ``parts``, each with its step's number, in order, on ``device``.

    Raises:
        DatasetError: a clip is not what the dataset says.
    """
    made = _Parts(parts, maker, seed)
    loader: Any = DataLoader(
        made,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCHED if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_alone,
    )
    # Closed in any case: workers that a raised error left waiting would keep the process from ending.
    with closing(_checked(iter(loader))) as checked:
        yield _copied(checked, device) if device.type == "cuda" else checked


def _checked(made: Iterator[Batch | AvskriftError]) -> Generator[Batch, None, None]:
    try:
        for batch in made:
            if isinstance(batch, AvskriftError):
                raise batch
            yield batch
    finally:
        del made  # else the traceback of what was raised would hold it, and it the workers


def _copied(made: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the GPU. The copy has a stream of its own, so that it runs beside the step before, which is launched already."""
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in made:
        with torch.cuda.stream(copying):
            moved = batch.to(device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        moved.keep_until_used(computing)
        yield moved


class _Parts(Dataset[Any]):
    def __init__(self, parts: Sequence[tuple[int, Part]], maker: BatchMaker, seed: int) -> None:
        self._parts, self._maker, self._seed = parts, maker, seed

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> Batch | AvskriftError:
        step, part = self._parts[index]
        try:
            return self._maker.make(part, seed=(self._seed, step))
        except AvskriftError as error:
            return error  # a value: the loader would wrap what a worker raises into a traceback


def _alone(_worker: int) -> None:
    """One thread, and the signals of before: Ctrl-C and SIGTERM are for the training to act on, which ends its workers."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""The clips of a split, at hand in any order: names and texts in memory, recordings in a file that is mapped, not read.

A run meets its clips in a new order each epoch, and a dataset's shards give 64 recordings at a time. So the recordings are
copied once into one file without a name, which the kernel keeps in memory as far as there is room, once for all workers.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import overload

from avskrift.corpus.dataset import Clip, Dataset
from avskrift.errors import TrainingError, disk_full


class StoredClips(Sequence[Clip]):
    """One split's clips by number. ``described`` holds them without their recordings.

    Raises:
        TrainingError: the split is empty.
        DatasetError: a shard cannot be read.
        DiskFullError: no space for a copy of the recordings in the folder for temporary files.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self.described: list[Clip] = []
        sizes = []
        try:
            with tempfile.TemporaryFile() as file:  # gone with the process, however it ends
                for clip in dataset.clips(split):
                    file.write(clip.audio)
                    sizes.append(len(clip.audio))
                    self.described.append(replace(clip, audio=b""))
                file.flush()
                if not self.described:
                    raise TrainingError(f"{dataset.folder}: the {split} split is empty; training needs train and validation clips")
                # A mapping of nothing is refused; recordings of no bytes are for the decoder to refuse.
                self._audio: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if sum(sizes) else b""
        except OSError as error:  # from closing the file too, which tries once more to write
            raise disk_full(error, where=tempfile.gettempdir()) or error from error
        self._bounds = list(pairwise(accumulate(sizes, initial=0)))

    def __len__(self) -> int:
        return len(self.described)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        start, end = self._bounds[index]
        return replace(self.described[index], audio=self._audio[start:end])

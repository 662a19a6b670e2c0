"""Recordings decoded by threads while the caller has the ones before: a GPU would otherwise wait for one core."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avskrift.cores import available_cores
from avskrift.corpus.dataset import Clip


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """A clip, its number among all, and its samples: float32, mono, 16 kHz, shape (samples,)."""

    number: int
    clip: Clip
    samples: npt.NDArray[np.float32]


def decoded_ahead(clips: Sequence[Clip], batches: Sequence[Sequence[int]]) -> Generator[list[DecodedClip]]:
    """The clips of ``batches`` of numbers, batch by batch, the next one decoded meanwhile. Two batches are held at most.

    Raises:
        DatasetError: a recording that cannot be decoded, when its batch is asked for.
    """

    def decode(number: int) -> DecodedClip:
        clip = clips[number]
        return DecodedClip(number, clip, clip.samples())

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="decode") as pool:
        coming: list[Future[DecodedClip]] = []
        try:
            for numbers in [*batches, []]:
                current, coming = coming, [pool.submit(decode, number) for number in numbers]
                if current:
                    yield [future.result() for future in current]
        finally:
            for future in coming:  # of a caller that stops, or of a batch after one that failed
                future.cancel()

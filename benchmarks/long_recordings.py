"""Long recordings: what is lost of clips that are joined, and what memory that takes, by the length of the recording.

    python benchmarks/long_recordings.py --package .avskrift/.../package --dataset .avskrift/.../dataset --minutes 5 10 20 40

Held-out clips, one after another with pauses of 0.3 to 1.2 s, transcribed at one go with word times. Told are the WER beside that of
the same clips one by one; the share of the words heard in the clips alone that are heard again, in order (the longest common
subsequence); the clips of which no word is found again; and how much more memory the process takes at most than before the call, which
counts the samples of the recording as before. Each length has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import psutil
from rapidfuzz.distance import LCSseq
from rich import box
from rich.console import Console
from rich.table import Table

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip, open_dataset
from avskrift.text.normaliser import normalise
from avskrift.whisper.export import as_package
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Audio, Options

_PAUSE_SECONDS = (0.3, 1.2)
_LOOKS_A_SECOND = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One length. WERs and shares are fractions, memory is in MB."""

    minutes: float
    clips: int
    seconds: float
    wer: float
    wer_alone: float
    words_found: float
    clips_lost: int
    samples_mb: float
    more_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", required=True, help="a model package, as the demo makes one; any model URI")
    parser.add_argument("--dataset", type=Path, required=True, help="a dataset folder; clips of test and of validation, again and again")
    parser.add_argument("--language", default="sv")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 10.0, 20.0, 40.0])
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = [pool.apply(measured, (options.package, options.dataset, options.language, minutes)) for minutes in options.minutes]
    table = Table(box=box.MARKDOWN)
    titles = ("minutes", "clips", "in s", "WER", "alone", "words found again", "clips lost", "samples, MB", "more memory, MB")
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        rates = (f"{row.wer:.1%}", f"{row.wer_alone:.1%}", f"{row.words_found:.1%}", str(row.clips_lost))
        table.add_row(f"{row.minutes:g}", str(row.clips), f"{row.seconds:.0f}", *rates, f"{row.samples_mb:.0f}", f"{row.more_mb:.0f}")
    Console(width=140).print(table)


def measured(package: str, dataset: Path, language: str, minutes: float) -> Row:
    engine = load_transcriber(as_package(package), device="cpu", threads=len(os.sched_getaffinity(0)))
    clips, recording = _joined(dataset, minutes)
    as_words = Options(language=language, timestamps="word")
    engine.transcribe([recording[: 60 * SAMPLE_RATE]], as_words)  # what is met once is met before the memory is read
    with _Peak() as peak:
        started = time.perf_counter()
        (whole,) = engine.transcribe([recording], as_words)
        seconds = time.perf_counter() - started
    alone = [normalise(one.text, language) for one in engine.transcribe([clip.samples() for clip in clips], Options(language=language))]
    references, heard = [normalise(clip.text, language) for clip in clips], normalise(whole.text, language)
    owners = [number for number, text in enumerate(alone) for _ in text.split()]
    blocks = LCSseq.opcodes(" ".join(alone).split(), heard.split()).as_matching_blocks()
    found = Counter(owners[place] for block in blocks for place in range(block.a, block.a + block.size))
    return Row(
        minutes=minutes,
        clips=len(clips),
        seconds=seconds,
        wer=float(jiwer.wer(" ".join(references), heard)),
        wer_alone=float(jiwer.wer(references, alone)),
        words_found=found.total() / len(owners),
        clips_lost=len(set(owners) - found.keys()),
        samples_mb=recording.nbytes / 1e6,
        more_mb=peak.more_mb,
    )


def _joined(folder: Path, minutes: float) -> tuple[Sequence[Clip], Audio]:
    dataset = open_dataset(folder)
    order = [clip for split in ("test", "validation") for clip in dataset.clips(split)]
    chance, noise = random.Random(1), np.random.default_rng(1)
    recording, at, clips = np.zeros(round(minutes * 60) * SAMPLE_RATE, np.float32), 0, list[Clip]()
    while True:
        if len(clips) % len(order) == 0:
            chance.shuffle(order)
        clip = order[len(clips) % len(order)]
        samples, pause = clip.samples(), round(chance.uniform(*_PAUSE_SECONDS) * SAMPLE_RATE)
        if at + len(samples) + pause > len(recording):
            return clips, recording[:at]
        recording[at : at + len(samples)] = samples
        at += len(samples)
        recording[at : at + pause] = noise.normal(0, 1e-4, pause)
        at += pause
        clips.append(clip)


class _Peak:
    """Most resident memory while the body runs, beyond what there was before it."""

    def __init__(self) -> None:
        self._process, self._ended = psutil.Process(), threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> _Peak:
        self._before = self._most = self._process.memory_info().rss
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(1 / _LOOKS_A_SECOND):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def more_mb(self) -> float:
        return (self._most - self._before) / 1e6


if __name__ == "__main__":
    main()

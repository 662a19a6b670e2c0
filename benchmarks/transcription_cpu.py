"""Transcription on a CPU: our engine beside faster-whisper, on the same package's weights, in the same run.

    python benchmarks/transcription_cpu.py --package .avskrift/.../package --dataset .avskrift/.../dataset

Two loads: (a) single clips of 2 to 6 s, (b) one recording of ten minutes, made of clips with pauses. All decode greedily, int8,
on the same number of threads, Swedish named. The peer is ``faster_whisper.WhisperModel`` one recording after the other, and its
``BatchedInferencePipeline``; both pad to 30 s. Times are the best of ``--repeats`` runs, the engines in turn. WER is normalised.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ctranslate2
import faster_whisper
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip, open_dataset
from avskrift.evaluation.error_rates import corpus_rate, count_errors
from avskrift.whisper.export import as_package
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Audio, Options

_SHORT_SECONDS = (2.0, 6.0)
_PAUSE_SECONDS = (0.3, 1.2)
_BATCH = 16
Transcribe = Callable[[Sequence[Audio]], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one engine did with one load."""

    load: str
    engine: str
    seconds: float
    audio_seconds_per_second: float
    times: float  # as fast as faster-whisper, sequential
    wer: float


def main() -> None:
    arguments = _arguments()
    clips = _short_clips(arguments.dataset, arguments.clips)
    package = as_package(arguments.package)
    engines = _engines(package.ctranslate2, arguments.package, arguments.language, arguments.threads)
    print(
        f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, {arguments.threads} threads; "
        f"ctranslate2 {ctranslate2.__version__}, faster-whisper {faster_whisper.__version__}; encoder context of the package: "
        f"{package.description.encoder_context.policy}\n"
    )
    recording, said = _joined(clips, arguments.minutes * 60)
    loads = {
        f"{len(clips)} clips": ([clip.samples() for clip in clips], [clip.text for clip in clips]),
        f"{len(recording) / SAMPLE_RATE / 60:.1f} minutes": ([recording], [said]),
    }
    rows = [row for name, (audio, texts) in loads.items() for row in _measure(name, audio, texts, engines, arguments)]
    print("| load | engine | seconds | audio s/s | times sequential | WER |\n|---|---|---|---|---|---|")
    for row in rows:
        figures = f"{row.seconds:.1f} | {row.audio_seconds_per_second:.1f} | {row.times:.2f} | {100 * row.wer:.1f} %"
        print(f"| {row.load} | {row.engine} | {figures} |")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--package", required=True, help="a model package, as the demo makes one; any model URI")
    parser.add_argument("--dataset", type=Path, required=True, help="a dataset folder; clips of test, then of validation")
    parser.add_argument("--language", default="sv")
    parser.add_argument("--clips", type=int, default=100, help="single clips")
    parser.add_argument(
        "--minutes", type=float, default=10, help="length of the long recording; clips are used again where they are too few"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args()


def _short_clips(folder: Path, count: int) -> list[Clip]:
    dataset = open_dataset(folder)
    held_out = [clip for split in ("test", "validation") for clip in dataset.clips(split)]
    fitting = [clip for clip in held_out if _SHORT_SECONDS[0] <= clip.duration_s <= _SHORT_SECONDS[1]]
    if not fitting:
        raise SystemExit(f"{folder}: no held-out clip of {_SHORT_SECONDS[0]:g} to {_SHORT_SECONDS[1]:g} s")
    return fitting[:count]


def _joined(clips: Sequence[Clip], seconds: float) -> tuple[Audio, str]:
    """Clips one after another, with pauses of near silence between them, until they last ``seconds``; and what is said in them."""
    chance, noise = random.Random(1), np.random.default_rng(1)
    order, pieces, texts = list(clips), list[Audio](), list[str]()
    while sum(map(len, pieces)) < seconds * SAMPLE_RATE:
        if len(texts) % len(order) == 0:
            chance.shuffle(order)
        clip = order[len(texts) % len(order)]
        pause = noise.normal(0, 1e-4, round(chance.uniform(*_PAUSE_SECONDS) * SAMPLE_RATE)).astype(np.float32)
        pieces += [clip.samples(), pause]
        texts.append(clip.text)
    return np.concatenate(pieces), " ".join(texts)


def _engines(model: Path, package: str, language: str, threads: int) -> dict[str, Transcribe]:
    ours = load_transcriber(as_package(package), device="cpu", threads=threads)
    peer = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
    batched = BatchedInferencePipeline(peer)

    def by_us(recordings: Sequence[Audio]) -> list[str]:
        return [transcript.text for transcript in ours.transcribe(recordings, Options(language=language))]

    def sequential(recordings: Sequence[Audio]) -> list[str]:
        settings = {"language": language, "beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}
        return [_text(peer.transcribe(samples, without_timestamps=len(samples) <= 30 * SAMPLE_RATE, **settings)) for samples in recordings]

    def in_batches(recordings: Sequence[Audio]) -> list[str]:
        settings = {"language": language, "beam_size": 1, "temperature": 0.0, "batch_size": _BATCH, "without_timestamps": True}
        return [_text(batched.transcribe(samples, **settings)) for samples in recordings]

    return {"faster-whisper, sequential": sequential, "faster-whisper, batched": in_batches, "ours": by_us}


def _text(answer: tuple[object, object]) -> str:
    return " ".join(segment.text.strip() for segment in answer[0])  # type: ignore[attr-defined]


def _measure(
    load: str, audio: Sequence[Audio], texts: Sequence[str], engines: dict[str, Transcribe], arguments: argparse.Namespace
) -> list[Row]:
    seconds: dict[str, float] = {}
    wer: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for name, transcribe in engines.items():
            started = time.perf_counter()
            heard = transcribe(audio)
            taken = time.perf_counter() - started
            seconds[name] = min(taken, seconds.get(name, taken))
            wer[name] = corpus_rate(errors.words for errors in count_errors(texts, heard, arguments.language))
    lasts = sum(map(len, audio)) / SAMPLE_RATE
    first = seconds[next(iter(engines))]
    return [
        Row(load=load, engine=name, seconds=taken, audio_seconds_per_second=lasts / taken, times=first / taken, wer=wer[name])
        for name, taken in seconds.items()
    ]


if __name__ == "__main__":
    main()

"""Dataset folders whose clips an engine can tell apart, and engines that answer what a test says.

A clip's number is how loud it is, so that a scripted engine knows which one it hears, in whatever order.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile as sf

from avskrift.corpus.dataset import Clip, Dataset, DatasetDescription, SourceSummary, SplitSummary, clip_table
from avskrift.errors import LanguageError
from avskrift.evaluation.hearing import Engine
from avskrift.evaluation.subject import Subject
from avskrift.storage.manifest import FileDigest
from avskrift.whisper.package import EncoderContext, ModelPackage, PackageDescription
from avskrift.whisper.transcript import Audio, Options, Segment, Transcript, Word

SENTENCES = ("Det regnar i dag.", "Var ligger närmaste järnvägsstation?", "Sju sjösjuka sjömän sköttes av sjutton sköna sjuksköterskor.")
NO_CLIP = -1  # the number of whatever is not one clip alone
_STEP = 1 / 1000  # of loudness, between two clips

Script = Callable[[int], str]


def clip(number: int, *, text: str | None = None, duration_s: float = 0.1, speaker: str = "", **more: Any) -> Clip:
    buffer = io.BytesIO()
    sf.write(buffer, np.full(round(16_000 * duration_s), (number + 1) * _STEP, dtype=np.float32), 16_000, format="FLAC")
    said = SENTENCES[number % len(SENTENCES)] if text is None else text
    return Clip(clip_id=f"clip-{number}", audio=buffer.getvalue(), duration_s=duration_s, text=said, speaker_id=speaker, **more)


def dataset(
    folder: Path,
    clips: Sequence[Clip],
    *,
    described: int | None = None,
    shards: int = 1,
    split: str = "test",
    sources: Sequence[str] = ("recordings",),
    **changes: Any,
) -> Dataset:
    """A dataset of one split; ``described`` is how many clips its description counts."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        of_shard = clips[shard * len(clips) // shards : (shard + 1) * len(clips) // shards]
        pq.write_table(clip_table(of_shard), folder / f"{split}-{shard:05}.parquet")
    summary = SplitSummary(clips=len(clips) if described is None else described, hours=0.0, speakers=0)
    description = DatasetDescription(
        fingerprint="f" * 64,
        language="sv",
        licence="",
        source="",
        source_sha256="",
        normaliser="",
        splits={split: summary},
        rejected=0,
        sources=[SourceSummary(uri=uri, licence="", weight=1.0, clips=0, hours=0.0, rejected=0) for uri in sources],
        speaker_salt_check="",
    )
    return Dataset(folder, dataclasses.replace(description, **changes))


def subject(name: str, *, policy: Any = "full") -> Subject:
    """A model whose package is nowhere; only a scripted engine can load it."""
    files = {"ct2/model.bin": FileDigest(sha256=name[0] * 64, size=1)}
    described = PackageDescription(
        base_model="", base_model_sha256="", languages=(), encoder_context=EncoderContext(policy=policy), files=files
    )
    return Subject(uri=name, package=ModelPackage(Path(name), described))


class Scripted:
    """Answers clip ``number`` with ``script(number)``, and ``missing`` recordings of each call not at all."""

    languages = frozenset({"sv", "en"})

    def __init__(self, script: Script, *, identity: str = "a scripted engine", missing: int = 0) -> None:
        self._script, self._identity, self._missing = script, identity, missing
        self.batches: list[list[int]] = []  # lengths in samples
        self.options: set[Options] = set()

    def identity(self) -> str:
        return self._identity

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        if options.language not in self.languages:
            raise LanguageError(f"this model does not know {options.language}")
        self.batches.append([len(recording) for recording in recordings])
        self.options.add(options)
        heard = [self._heard(recording, options) for recording in recordings]
        return heard[self._missing :]

    @property
    def recordings(self) -> int:
        """How many it was given."""
        return sum(map(len, self.batches))

    def _heard(self, recording: Audio, options: Options) -> Transcript:
        text, seconds = self._script(_number(recording)), len(recording) / 16_000
        word = Word(start_s=0.0, end_s=seconds, text=text, probability=0.5)
        segment = Segment(start_s=0.0, end_s=seconds, text=text, avg_logprob=-0.5, no_speech_prob=0.1, words=(word,))
        return Transcript(text=text, language=options.language or "", duration_s=seconds, segments=(segment,))


def _number(recording: Audio) -> int:
    return round(float(recording[0]) / _STEP) - 1 if recording.min() == recording.max() else NO_CLIP


def right(number: int) -> str:
    return SENTENCES[number % len(SENTENCES)].upper()


def first_word(number: int) -> str:
    return SENTENCES[number % len(SENTENCES)].split()[0]


def engine(*, batch_size: int = 4, machine: str = "a machine", cache: Any = None, **models: Scripted) -> Engine:
    """Loads each model by the name of its package."""
    return Engine(load=lambda package: models[package.folder.name], machine=machine, batch_size=batch_size, cache=cache)

"""Transcribe a whole split with one model, and time it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip
from avskrift.errors import EvaluationError
from avskrift.logs import Log
from avskrift.progress import progress as shown_progress
from avskrift.whisper.transcript import Options, Transcriber

_BATCHES_SORTED_TOGETHER = 32  # clips in memory: enough that a batch's lengths lie close, few enough for a laptop

_log = Log("evaluation")


class NamedTranscriber(Transcriber, Protocol):
    """A transcription engine that can say what it is."""

    def identity(self) -> str:
        """Engine, compute type and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypotheses:
    """What one model heard: a text for each clip, in the order in which the clips came."""

    texts: tuple[str, ...]
    engine: str
    audio_seconds_per_second: float  # seconds of recording transcribed in a second of the engine's work


def transcribe_clips(
    clips: Iterable[Clip], transcriber: NamedTranscriber, *, language: str, batch_size: int, model: str, expected: int
) -> Hypotheses:
    """Transcribe every clip; ``model`` names it in progress and errors, ``expected`` is how many clips there should be.

    Raises:
        EvaluationError: the engine did not answer once for every clip.
        LanguageError: the model does not know ``language``.
        DatasetError: a recording cannot be read.
    """
    texts: dict[int, str] = {}
    audio_s = work_s = 0.0
    with shown_progress(f"transcribe, {model}", total=expected) as progress:
        for batch in _batches(clips, batch_size):
            recordings = [clip.samples() for _, clip in batch]
            started = time.perf_counter()
            transcripts = transcriber.transcribe(recordings, Options(language=language))
            work_s += time.perf_counter() - started
            audio_s += sum(len(recording) for recording in recordings) / SAMPLE_RATE
            if len(transcripts) != len(batch):
                raise EvaluationError(
                    f"{model}: the engine gave {len(transcripts)} transcripts for {len(batch)} clips; this is a bug of the engine"
                )
            texts |= {position: transcript.text for (position, _), transcript in zip(batch, transcripts, strict=True)}
            progress.advance(len(batch))
    if len(texts) != expected:
        raise EvaluationError(
            f"{model}: {len(texts)} clips were transcribed where {expected} were counted; leave the dataset alone meanwhile"
        )
    speed = audio_s / max(work_s, 1e-9)  # a clock may not tick within a very short batch
    _log.info("evaluation.transcribed", model=model, clips=len(texts), audio_seconds_per_second=speed)
    return Hypotheses(
        texts=tuple(texts[position] for position in range(expected)), engine=transcriber.identity(), audio_seconds_per_second=speed
    )


def _batches(clips: Iterable[Clip], batch_size: int) -> Iterator[list[tuple[int, Clip]]]:
    """Batches of clips of like duration, each clip with its position.

    A batch costs what its longest clip costs, so clips are sorted; but within a stretch of the split, not within all
    of it: the audio of a whole test set may not fit in memory.
    """
    numbered = enumerate(clips)
    while stretch := list(islice(numbered, batch_size * _BATCHES_SORTED_TOGETHER)):
        stretch.sort(key=lambda entry: entry[1].duration_s, reverse=True)
        for start in range(0, len(stretch), batch_size):
            yield stretch[start : start + batch_size]

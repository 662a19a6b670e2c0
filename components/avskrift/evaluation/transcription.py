"""Transcribe a whole split with one model, and time it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import Clip
from avskrift.errors import EvaluationError
from avskrift.logs import Log
from avskrift.progress import progress as shown_progress
from avskrift.whisper.transcript import Audio, Options, Transcriber, Transcript

_BATCHES_SORTED_TOGETHER = 32  # clips in memory: enough that a batch's lengths lie close, few enough for a laptop

_log = Log("evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypotheses:
    """What one model heard: a text for each clip, in the order in which the clips came."""

    texts: tuple[str, ...]
    audio_seconds_per_second: float  # seconds of recording transcribed in a second of the engine's work


def transcribe_clips(
    clips: Iterable[Clip], transcriber: Transcriber, *, language: str, batch_size: int, model: str, expected: int
) -> Hypotheses:
    """Transcribe every clip; ``model`` names it in progress and errors, ``expected`` is how many clips there should be.

    Raises:
        EvaluationError: the engine did not answer once for every clip.
        LanguageError: the model does not know ``language``.
        DatasetError: a recording cannot be read.
    """
    texts: dict[int, str] = {}
    stopwatch = _Stopwatch(transcriber, language, model)
    with shown_progress(f"transcribe, {model}", total=expected) as progress:
        for batch in _batches(clips, batch_size):
            transcripts = stopwatch.transcribe([clip.samples() for _, clip in batch])
            texts |= {position: transcript.text for (position, _), transcript in zip(batch, transcripts, strict=True)}
            progress.advance(len(batch))
    if len(texts) != expected:
        raise EvaluationError(
            f"{model}: {len(texts)} clips were transcribed where {expected} were counted; leave the dataset alone meanwhile"
        )
    _log.info("evaluation.transcribed", model=model, clips=len(texts), audio_seconds_per_second=stopwatch.speed)
    return Hypotheses(texts=tuple(texts[position] for position in range(expected)), audio_seconds_per_second=stopwatch.speed)


def measure_speed(recordings: Sequence[Audio], transcriber: Transcriber, *, language: str, batch_size: int, model: str) -> float:
    """Seconds of recording transcribed in a second of the engine's work, of a few recordings and not of a whole split.

    Raises:
        EvaluationError: the engine did not answer once for every recording.
        LanguageError: the model does not know ``language``.
    """
    stopwatch = _Stopwatch(transcriber, language, model)
    by_length = sorted(recordings, key=len, reverse=True)
    for start in range(0, len(by_length), batch_size):
        stopwatch.transcribe(by_length[start : start + batch_size])
    return stopwatch.speed


class _Stopwatch:
    """Counts the audio that an engine transcribes, and the time that it takes."""

    def __init__(self, transcriber: Transcriber, language: str, model: str) -> None:
        self._transcriber, self._options, self._model = transcriber, Options(language=language), model
        self._audio_s = self._work_s = 0.0

    @property
    def speed(self) -> float:
        return self._audio_s / max(self._work_s, 1e-9)  # a clock may not tick within a very short batch

    def transcribe(self, recordings: Sequence[Audio]) -> list[Transcript]:
        started = time.perf_counter()
        transcripts = self._transcriber.transcribe(recordings, self._options)
        self._work_s += time.perf_counter() - started
        self._audio_s += sum(len(recording) for recording in recordings) / SAMPLE_RATE
        if len(transcripts) != len(recordings):
            raise EvaluationError(
                f"{self._model}: the engine gave {len(transcripts)} transcripts for {len(recordings)} clips; this is a bug of the engine"
            )
        return transcripts


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

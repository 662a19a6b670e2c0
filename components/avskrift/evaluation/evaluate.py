"""Measure a candidate and a baseline on the same clips, through the engine that serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from avskrift.corpus.dataset import Dataset
from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Grouping, group_clips, paired_difference, ratio_interval
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.error_rates import ClipErrors, ErrorCounts, count_errors, total
from avskrift.evaluation.result import Estimate, Evaluation, ModelScore
from avskrift.evaluation.transcription import Hypotheses, NamedTranscriber, transcribe_clips
from avskrift.logs import Log
from avskrift.text.normaliser import normalise, normaliser_version
from avskrift.whisper.package import ModelPackage

BATCH_SIZE = 16

_log = Log("evaluation")

Load = Callable[[ModelPackage], NamedTranscriber]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to measure: its package, and the URI under which people know it."""

    uri: str
    package: ModelPackage


def evaluate(
    dataset: Dataset,
    split: str,
    *,
    candidate: Subject,
    baseline: Subject,
    language: str,
    load: Load,
    batch_size: int = BATCH_SIZE,
) -> tuple[Evaluation, list[ClipResult]]:
    """Transcribe every clip of ``split`` with both models, one model in memory at a time, and compare them.

    ``load`` opens a package with the serving engine. ``language`` is a Whisper code: it is given to the models and
    chooses the normaliser. Results come in the split's order, whatever order the clips were transcribed in.

    Raises:
        EvaluationError: the split is empty, has no words or not the clips that ``dataset.json`` counts, an engine did
            not answer for every clip, or the two models were not run by the same engine.
        LanguageError: a model does not know ``language``.
        DatasetError: a shard or a recording cannot be read.
    """
    references = _references(dataset, split, language)
    _log.info("evaluation.started", split=split, clips=len(references), language=language)

    def measure(subject: Subject, model: str) -> _Measured:
        clips, transcriber = dataset.clips(split), load(subject.package)
        heard = transcribe_clips(clips, transcriber, language=language, batch_size=batch_size, model=model, expected=len(references))
        errors = count_errors([reference.text for reference in references], heard.texts, language)
        return _Measured(subject=subject, heard=heard, errors=tuple(errors))

    before, after = measure(baseline, "baseline"), measure(candidate, "candidate")
    evaluation = _compare(dataset, split, language, references, after, before)
    _log.info("evaluation.finished", wer_before=evaluation.baseline.wer.value, wer_after=evaluation.candidate.wer.value)
    return evaluation, _clip_results(references, after, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """A clip without its audio."""

    clip_id: str
    duration_s: float
    text: str
    speaker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A model, what it heard, and what it got wrong, clip by clip."""

    subject: Subject
    heard: Hypotheses
    errors: tuple[ClipErrors, ...]

    @property
    def words(self) -> list[ErrorCounts]:
        return [clip.words for clip in self.errors]

    @property
    def characters(self) -> list[ErrorCounts]:
        return [clip.characters for clip in self.errors]


def _references(dataset: Dataset, split: str, language: str) -> list[_Reference]:
    """The split without its audio; what cannot be measured is refused here, before hours of transcription and not after."""
    references = [
        _Reference(clip_id=clip.clip_id, duration_s=clip.duration_s, text=clip.text, speaker_id=clip.speaker_id)
        for clip in dataset.clips(split)
    ]
    described = dataset.description.splits.get(split)
    counted = described.clips if described else 0
    if not references:
        raise EvaluationError(f"{dataset.folder}: the {split} split is empty; prepare the dataset with clips in it")
    if counted != len(references):
        raise EvaluationError(
            f"{dataset.folder}: {len(references)} {split} clips where dataset.json counts {counted}; prepare the dataset again"
        )
    for reference in references:
        if not (math.isfinite(reference.duration_s) and reference.duration_s > 0):
            raise EvaluationError(f"clip {reference.clip_id} of {split}: a duration of {reference.duration_s} s; prepare the dataset again")
    if not any(normalise(reference.text, language).strip() for reference in references):
        raise EvaluationError(f"{dataset.folder}: no {split} transcript holds a word once normalised; use a split with transcripts")
    return references


def _compare(
    dataset: Dataset, split: str, language: str, references: Sequence[_Reference], candidate: _Measured, baseline: _Measured
) -> Evaluation:
    engine, other = candidate.heard.engine, baseline.heard.engine
    if engine != other:
        raise EvaluationError(f"the candidate was transcribed by {engine}, the baseline by {other}; measure both with one engine")
    grouping = group_clips([reference.speaker_id for reference in references])
    return Evaluation(
        dataset_fingerprint=dataset.description.fingerprint,
        split=split,
        language=language,
        normaliser=normaliser_version(language),
        clips=len(references),
        hours=math.fsum(reference.duration_s for reference in references) / 3600,
        speakers=grouping.speakers,
        resampled=grouping.unit,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        candidate=_score(candidate, grouping),
        baseline=_score(baseline, grouping),
        wer_difference=paired_difference(_errors(candidate.words), _errors(baseline.words), _units(baseline.words), grouping),
        engine=engine,
    )


def _score(model: _Measured, grouping: Grouping) -> ModelScore:
    all_words = total(model.words)
    return ModelScore(
        uri=model.subject.uri,
        package_sha256=model.subject.package.description.sha256,
        wer=_rate(model.words, grouping),
        cer=_rate(model.characters, grouping),
        substitutions=all_words.substitutions,
        deletions=all_words.deletions,
        insertions=all_words.insertions,
        reference_words=all_words.reference_units,
        hypotheses=len(model.heard.texts),
        audio_seconds_per_second=model.heard.audio_seconds_per_second,
    )


def _rate(counts: Sequence[ErrorCounts], grouping: Grouping) -> Estimate:
    return ratio_interval(_errors(counts), _units(counts), grouping)


def _errors(counts: Iterable[ErrorCounts]) -> list[int]:
    return [count.errors for count in counts]


def _units(counts: Iterable[ErrorCounts]) -> list[int]:
    return [count.reference_units for count in counts]


def _clip_results(references: Sequence[_Reference], candidate: _Measured, baseline: _Measured) -> list[ClipResult]:
    rows = zip(references, baseline.heard.texts, candidate.heard.texts, baseline.words, candidate.words, strict=True)
    return [
        ClipResult(
            clip_id=reference.clip_id,
            duration_s=reference.duration_s,
            reference=reference.text,
            baseline=heard_before,
            candidate=heard_after,
            reference_words=wrong_after.reference_units,
            baseline_errors=wrong_before.errors,
            candidate_errors=wrong_after.errors,
            baseline_wer=wrong_before.rate,
            candidate_wer=wrong_after.rate,
        )
        for reference, heard_before, heard_after, wrong_before, wrong_after in rows
    ]

"""Measure a candidate, a baseline and others on the same clips, through the engine that serves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from avskrift.corpus.dataset import Dataset
from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Grouping, group_clips, paired_difference
from avskrift.evaluation.check_names import CHECKS, HALLUCINATION, LONG_FORM, SHORT_CONTEXT
from avskrift.evaluation.checks import (
    Material,
    check_hallucination,
    check_long_form,
    check_short_context,
    choose_material,
    latency_check,
    needs_full_context,
    with_full_context,
)
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.error_rates import ErrorCounts
from avskrift.evaluation.hearing import ClipSet, Engine, hear, load, read_clip_set, speed_of
from avskrift.evaluation.protocols import Counted, count_by_protocol, error_rates
from avskrift.evaluation.result import NORMALISED, Evaluation, Hallucination, LongForm, ModelScore, ShortContext, Speed
from avskrift.evaluation.slices import measure_slices, worst_slice
from avskrift.evaluation.subject import BASELINE, CANDIDATE, Subject, other
from avskrift.logs import Log
from avskrift.text.normaliser import normaliser_version
from avskrift.text.repetition import is_loop

Found = TypeVar("Found")
_log = Log("evaluation")


def evaluate(
    dataset: Dataset,
    split: str,
    *,
    candidate: Subject,
    baseline: Subject,
    others: Sequence[Subject] = (),
    language: str,
    engine: Engine,
    checks: Sequence[str] = CHECKS,
) -> tuple[Evaluation, list[ClipResult]]:
    """Let every model hear every clip of ``split``, one model in memory at a time, and compare them.

    ``language`` is a Whisper code: it is given to the models and chooses the normaliser. Results come in the split's order,
    whatever order the clips were transcribed in.

    Raises:
        EvaluationError: the split is empty, has no words or not the clips that ``dataset.json`` counts, an engine did
            not answer for every clip, or the models were not run by the same engine.
        LanguageError: a model does not know ``language``.
        PackageError: the engine refuses a model.
        DatasetError: a shard or a recording cannot be read.
    """
    clips = read_clip_set(dataset, split, language)
    _log.info("evaluation.started", split=split, clips=len(clips.references), language=language, models=2 + len(others))
    material = choose_material(clips, checks)
    before = _measure(engine, baseline, BASELINE, clips, material)
    after = _measure(engine, candidate, CANDIDATE, clips, material)
    rest = [_measure(engine, one, other(number), clips, material) for number, one in enumerate(others, start=1)]
    _refuse_two_engines([before, after, *rest])
    short_context = _short_context(engine, after, material)
    evaluation = _compare(clips, engine, after, before, rest, short_context)
    _log.info("evaluation.finished", wer_before=evaluation.baseline.wer.value, wer_after=evaluation.candidate.wer.value)
    return evaluation, _clip_results(clips, after, before, rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A model, what it heard, and what it got wrong, clip by clip."""

    name: str
    subject: Subject
    engine: str
    texts: tuple[str, ...]
    counted: Counted
    speed: Speed
    hallucination: Hallucination | None
    long_form: LongForm | None

    @property
    def words(self) -> list[ErrorCounts]:
        """Normalised."""
        return [clip.words for clip in self.counted[NORMALISED]]


def _measure(engine: Engine, subject: Subject, name: str, clips: ClipSet, material: Material) -> _Measured:
    loaded = load(engine, subject.package, name)
    heard = hear(engine, loaded, clips)
    speed = speed_of(
        engine,
        loaded,
        clips,
        heard,
        recordings=material.timed_recordings,
        latency=latency_check(material, loaded.transcriber),
    )
    return _Measured(
        name=name,
        subject=subject,
        engine=loaded.model.engine,
        texts=heard.texts,
        counted=count_by_protocol(clips.texts, heard.texts, clips.language),
        speed=speed,
        hallucination=_logged(name, HALLUCINATION, check_hallucination(material, loaded.remembering)),
        long_form=_logged(name, LONG_FORM, check_long_form(material, heard.texts, loaded.remembering)),
    )


def _logged(model: str, check: str, found: Found) -> Found:
    """What a check found: it may take minutes, and whoever waits wants to know which."""
    if found is not None:
        _log.info("evaluation.checked", model=model, check=check)
    return found


def _short_context(engine: Engine, candidate: _Measured, material: Material) -> ShortContext | None:
    """Of the candidate alone: the others are not to be promoted."""
    package = candidate.subject.package
    full = load(engine, with_full_context(package), candidate.name) if needs_full_context(material, package) else None
    return _logged(candidate.name, SHORT_CONTEXT, check_short_context(material, candidate.texts, full.remembering if full else None))


def _refuse_two_engines(models: Sequence[_Measured]) -> None:
    first = models[0]
    for model in models[1:]:
        if model.engine != first.engine:
            raise EvaluationError(
                f"the {model.name} was transcribed by {model.engine}, the {first.name} by {first.engine}; measure all with one engine"
            )


def _compare(
    clips: ClipSet,
    engine: Engine,
    candidate: _Measured,
    baseline: _Measured,
    others: Sequence[_Measured],
    short_context: ShortContext | None,
) -> Evaluation:
    grouping = group_clips(clips.speakers)
    slices = measure_slices(clips.references, candidate.words, baseline.words)
    return Evaluation(
        dataset_fingerprint=clips.dataset.description.fingerprint,
        split=clips.split,
        language=clips.language,
        normaliser=normaliser_version(clips.language),
        clips=len(clips.references),
        hours=math.fsum(reference.duration_s for reference in clips.references) / 3600,
        speakers=grouping.speakers,
        resampled=grouping.unit,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        candidate=_score(candidate, grouping, short_context),
        baseline=_score(baseline, grouping),
        others=tuple(_score(model, grouping) for model in others),
        wer_difference=paired_difference(
            [count.errors for count in candidate.words],
            [count.errors for count in baseline.words],
            [count.reference_units for count in baseline.words],
            grouping,
        ),
        slices=slices,
        worst_slice=worst_slice(slices),
        engine=candidate.engine,
        machine=engine.machine,
    )


def _score(model: _Measured, grouping: Grouping, short_context: ShortContext | None = None) -> ModelScore:
    return ModelScore(
        uri=model.subject.uri,
        package_sha256=model.subject.package.description.sha256,
        hypotheses=len(model.texts),
        looped=sum(map(is_loop, model.texts)),
        rates=error_rates(model.counted, grouping),
        speed=model.speed,
        hallucination=model.hallucination,
        long_form=model.long_form,
        short_context=short_context,
    )


def _clip_results(clips: ClipSet, candidate: _Measured, baseline: _Measured, others: Sequence[_Measured]) -> list[ClipResult]:
    return [
        ClipResult(
            clip_id=reference.clip_id,
            duration_s=reference.duration_s,
            reference=reference.text,
            baseline=baseline.texts[place],
            candidate=candidate.texts[place],
            reference_words=wrong_after.reference_units,
            baseline_errors=wrong_before.errors,
            candidate_errors=wrong_after.errors,
            baseline_wer=wrong_before.rate,
            candidate_wer=wrong_after.rate,
            speaker_id=reference.speaker_id,
            gender=reference.gender,
            age=reference.age,
            source=reference.source,
            others=tuple(model.texts[place] for model in others),
        )
        for place, (reference, wrong_before, wrong_after) in enumerate(zip(clips.references, baseline.words, candidate.words, strict=True))
    ]

"""What models are made to hear beside the split: sounds without speech, long recordings, short contexts, one clip at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avskrift.errors import EvaluationError
from avskrift.evaluation import hallucination, latency, long_form
from avskrift.evaluation.bootstrap import compare_rates, group_clips
from avskrift.evaluation.check_names import HALLUCINATION, LATENCY, LONG_FORM, SHORT_CONTEXT
from avskrift.evaluation.hearing import ClipSet, Latency
from avskrift.evaluation.joined_clips import PAUSE_SECONDS
from avskrift.evaluation.listening import word_errors, words
from avskrift.evaluation.result import Hallucination, LongForm, ShortContext
from avskrift.evaluation.short_context import choose_shortest, measure_short_context
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Audio, Transcriber

_SPARE_CLIPS = 5  # beyond what fills the long recordings by their clips' mean length


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The clips that the checks ``names`` hear, by their place in the split; no check hears more than minutes of it."""

    names: tuple[str, ...]
    language: str
    clips: Mapping[int, SpokenClip]
    speech: Sequence[int]
    joined: Sequence[int]
    shortest: Sequence[int]
    timed: Sequence[int]

    def of(self, places: Sequence[int]) -> list[SpokenClip]:
        return [self.clips[place] for place in places]

    @property
    def timed_recordings(self) -> list[Audio]:
        """What speed is measured on where it is not measured on the whole split."""
        return [clip.samples for clip in self.of(self.timed)]


def choose_material(clips: ClipSet, names: Sequence[str]) -> Material:
    """Choose what the checks hear, from all over the split, since neighbours often share their speaker; read it once for all models.

    Raises:
        EvaluationError: the split no longer holds the clips that were counted.
        DatasetError: a recording cannot be read.
    """
    with_words = [place for place, text in enumerate(clips.texts) if words(text, clips.language)]
    durations = [clips.references[place].duration_s for place in with_words]
    speech = _spread(with_words, hallucination.SPEECH_CLIPS) if HALLUCINATION in names else []
    joined = _spread(with_words, _enough_to_join(durations)) if LONG_FORM in names else []
    shortest = [with_words[short] for short in choose_shortest(durations)] if SHORT_CONTEXT in names else []
    timed = _spread(range(len(clips.references)), latency.CLIPS)
    return Material(
        names=tuple(names),
        language=clips.language,
        clips=_read(clips, {*speech, *joined, *shortest, *timed}),
        speech=speech,
        joined=joined,
        shortest=shortest,
        timed=timed,
    )


def check_hallucination(material: Material, transcriber: Transcriber) -> Hallucination | None:
    """See :mod:`avskrift.evaluation.hallucination`; None where it was not asked for, as with every check."""
    if HALLUCINATION not in material.names:
        return None
    return hallucination.measure_hallucination(transcriber, language=material.language, speech=material.of(material.speech))


def check_long_form(material: Material, texts: Sequence[str], transcriber: Transcriber) -> LongForm | None:
    """See :mod:`avskrift.evaluation.long_form`; ``texts`` are what the model heard of the split."""
    if LONG_FORM not in material.names:
        return None
    alone = [texts[place] for place in material.joined]
    return long_form.measure_long_form(material.of(material.joined), alone, transcriber, language=material.language)


def latency_check(material: Material, transcriber: Transcriber) -> Callable[[], Latency] | None:
    """What measures :mod:`avskrift.evaluation.latency` when it is called; None where it was not asked for."""
    if LATENCY not in material.names:
        return None
    return lambda: latency.measure_latency(material.timed_recordings, transcriber, language=material.language)


def needs_full_context(material: Material, package: ModelPackage) -> bool:
    """Whether the model must be loaded once more, for :func:`check_short_context`."""
    return SHORT_CONTEXT in material.names and package.description.encoder_context.policy != "full" and bool(material.shortest)


def with_full_context(package: ModelPackage) -> ModelPackage:
    """The same weights, given 30 s whatever a clip lasts."""
    described = package.description
    return replace(package, description=replace(described, encoder_context=replace(described.encoder_context, policy="full")))


def check_short_context(material: Material, texts: Sequence[str], full: Transcriber | None) -> ShortContext | None:
    """See :mod:`avskrift.evaluation.short_context`; ``full`` is None for a model that is given 30 s anyway and loses nothing."""
    if SHORT_CONTEXT not in material.names or not material.shortest:
        return None
    clips, heard = material.of(material.shortest), [texts[place] for place in material.shortest]
    if full is not None:
        return measure_short_context(clips, heard, full, language=material.language)
    errors = [word_errors(clip.text, text, material.language) for clip, text in zip(clips, heard, strict=True)]
    units = [len(words(clip.text, material.language)) for clip in clips]
    same = compare_rates(errors, errors, units, group_clips([clip.speaker_id for clip in clips]))
    return ShortContext(clips=len(clips), wer=same.candidate, wer_full=same.baseline, loss=same.difference)


def _enough_to_join(durations: Sequence[float]) -> int:
    if not durations:
        return 0
    with_pause = sum(durations) / len(durations) + sum(PAUSE_SECONDS) / 2
    return math.ceil(long_form.RECORDINGS * long_form.RECORDING_SECONDS / with_pause) + _SPARE_CLIPS


def _spread(places: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the places, at even distances."""
    return [places[int(at)] for at in np.linspace(0, len(places), num=min(count, len(places)), endpoint=False)]


def _read(clips: ClipSet, places: set[int]) -> dict[int, SpokenClip]:
    read = {
        place: SpokenClip(
            clip_id=clip.clip_id, text=clip.text, speaker_id=clip.speaker_id, duration_s=clip.duration_s, samples=clip.samples()
        )
        for place, clip in enumerate(clips.dataset.clips(clips.split))
        if place in places
    }
    if any(place not in read or read[place].clip_id != clips.references[place].clip_id for place in places):
        raise EvaluationError(
            f"{clips.dataset.folder}: the {clips.split} clips are not those that were counted; leave the dataset alone meanwhile"
        )
    return read

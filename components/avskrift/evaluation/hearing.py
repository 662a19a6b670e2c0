"""What a model hears of a split and how fast, from the engine or as it was kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from avskrift.corpus.dataset import Dataset
from avskrift.evaluation.hypothesis_cache import HeardSplit, HypothesisCache, Model, Split, model_of
from avskrift.evaluation.references import Reference, content_digest, read_references
from avskrift.evaluation.result import Speed
from avskrift.evaluation.subject import Load, blaming
from avskrift.evaluation.transcription import measure_speed, transcribe_clips
from avskrift.logs import Log
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Audio, Transcriber

BATCH_SIZE = 16

Latency = tuple[float, float, int]  # median and 95th percentile in seconds, and of how many clips

_log = Log("evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How models are loaded and asked. ``machine`` is the one that speeds are measured on; ``cache`` None keeps nothing."""

    load: Load
    machine: str
    batch_size: int = BATCH_SIZE
    cache: HypothesisCache | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory; ``remembering`` is the same transcriber, but for what is kept."""

    name: str
    model: Model
    transcriber: Transcriber
    remembering: Transcriber


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSet:
    """The clips of a split, in the language that models are told."""

    dataset: Dataset
    split: str
    language: str
    references: Sequence[Reference]

    @property
    def texts(self) -> list[str]:
        return [reference.text for reference in self.references]

    @property
    def speakers(self) -> list[str]:
        return [reference.speaker_id for reference in self.references]

    @property
    def key(self) -> Split:
        return Split(
            dataset_fingerprint=self.dataset.description.fingerprint,
            name=self.split,
            content=content_digest(self.references),
            language=self.language,
        )


def read_clip_set(dataset: Dataset, split: str, language: str) -> ClipSet:
    """The clips to hear.

    Raises:
        EvaluationError, DatasetError: as :func:`read_references` does.
    """
    return ClipSet(dataset=dataset, split=split, language=language, references=tuple(read_references(dataset, split, language)))


def load(engine: Engine, package: ModelPackage, name: str) -> Loaded:
    """Load a model; ``name`` is what messages call it.

    Raises:
        PackageError: the engine refuses it.
    """
    with blaming(name):
        transcriber = engine.load(package)
    model = model_of(package, transcriber)
    remembering = engine.cache.remembering(model, transcriber) if engine.cache else transcriber
    return Loaded(name=name, model=model, transcriber=transcriber, remembering=remembering)


def hear(engine: Engine, loaded: Loaded, clips: ClipSet) -> HeardSplit:
    """What the model hears of every clip, in order. Its speed is among it where this machine was the one to transcribe.

    Raises:
        EvaluationError: the engine did not answer once for every clip.
        LanguageError: the model does not know the language.
        DatasetError: a recording cannot be read.
    """
    kept = engine.cache.heard(loaded.model, clips.key, clips=len(clips.references)) if engine.cache else None
    if kept is not None:
        _log.info("evaluation.kept_texts_used", model=loaded.name, clips=len(kept.texts))
        return kept
    with blaming(loaded.name):
        heard = transcribe_clips(
            clips.dataset.clips(clips.split),
            loaded.transcriber,
            language=clips.language,
            batch_size=engine.batch_size,
            model=loaded.name,
            expected=len(clips.references),
        )
    fresh = HeardSplit(texts=heard.texts, speeds={engine.machine: _without_latency(heard.audio_seconds_per_second)})
    if engine.cache:
        engine.cache.keep(loaded.model, clips.key, fresh)
    return fresh


def speed_of(
    engine: Engine,
    loaded: Loaded,
    clips: ClipSet,
    heard: HeardSplit,
    *,
    recordings: Sequence[Audio],
    latency: Callable[[], Latency] | None,
) -> Speed:
    """How fast the model is on this machine, with its ``latency`` unless that is None; what is kept is not measured again.

    Texts that were kept on another machine say nothing of this one's speed, which is then measured on ``recordings``.

    Raises:
        EvaluationError: the engine did not answer once for every recording.
    """
    known = heard.speeds.get(engine.machine)
    speed = known or _without_latency(
        measure_speed(recordings, loaded.transcriber, language=clips.language, batch_size=engine.batch_size, model=loaded.name)
    )
    if latency is None:
        return _without_latency(speed.audio_seconds_per_second)
    if not speed.latency_clips:
        median, high, timed = latency()
        speed = replace(speed, latency_p50_s=median, latency_p95_s=high, latency_clips=timed)
    if engine.cache and speed != known:
        engine.cache.keep(loaded.model, clips.key, replace(heard, speeds=heard.speeds | {engine.machine: speed}))
    return speed


def _without_latency(audio_seconds_per_second: float) -> Speed:
    return Speed(audio_seconds_per_second=audio_seconds_per_second, latency_p50_s=0.0, latency_p95_s=0.0, latency_clips=0)

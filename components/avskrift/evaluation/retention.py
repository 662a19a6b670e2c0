"""What a model lost of what the model that it was trained from could do, on a second dataset."""

from __future__ import annotations

from avskrift.corpus.dataset import Dataset
from avskrift.errors import EvaluationError, ModelUnavailableError
from avskrift.evaluation.bootstrap import compare_rates, group_clips
from avskrift.evaluation.error_rates import ErrorCounts, count_errors
from avskrift.evaluation.hearing import ClipSet, Engine, hear, load, read_clip_set
from avskrift.evaluation.result import Retention
from avskrift.evaluation.subject import CANDIDATE, Subject, blaming
from avskrift.logs import Log
from avskrift.text.languages import check_language
from avskrift.whisper.export import as_package, transformers_digest

BASE = "base model"

_log = Log("evaluation")


def base_of(candidate: Subject) -> Subject:
    """The model that the candidate was trained from, its bytes checked against its own manifest.

    Whether they are still those that training started from is logged, and no more: a conversion of the same weights by
    another version of a library has another digest.

    Raises:
        ModelUnavailableError: the package does not name it, or it cannot be had.
        IntegrityError: it was changed since it was written.
        PackageError: it cannot be exported.
    """
    described = candidate.package.description
    with blaming(BASE):
        if not described.base_model:
            raise ModelUnavailableError("the candidate's package does not name it; measure without a second dataset")
        base = as_package(described.base_model)
        base.verify()
    if described.base_model_sha256 not in (base.description.base_model_sha256, transformers_digest(base.transformers)):
        _log.warning("evaluation.base_model_differs", package_sha256=base.description.sha256)
    return Subject(uri=described.base_model, package=base)


def measure_retention(candidate: Subject, base: Subject, dataset: Dataset, engine: Engine) -> Retention:
    """Compare both on the dataset's test clips, or on its validation clips where it has none, in its own language.

    Raises:
        EvaluationError: the dataset has neither, an engine did not answer for every clip, or there are no words.
        LanguageError: a model does not know the dataset's language.
        PackageError: the engine refuses a model.
        DatasetError: a shard or a recording cannot be read.
    """
    clips = read_clip_set(dataset, _split(dataset), check_language(dataset.description.language))
    before, after = (_errors(engine, subject, name, clips) for subject, name in ((base, BASE), (candidate, CANDIDATE)))
    compared = compare_rates(
        [count.errors for count in after],
        [count.errors for count in before],
        [count.reference_units for count in before],
        group_clips(clips.speakers),
    )
    return Retention(
        dataset_fingerprint=dataset.description.fingerprint,
        language=clips.language,
        clips=len(clips.references),
        base_uri=base.uri,
        base_sha256=base.package.description.sha256,
        candidate=compared.candidate,
        base=compared.baseline,
        loss=compared.difference,
    )


def _split(dataset: Dataset) -> str:
    for split in ("test", "validation"):
        described = dataset.description.splits.get(split)
        if described and described.clips:
            return split
    raise EvaluationError(f"{dataset.folder}: neither test nor validation clips, so retention cannot be measured; prepare it with some")


def _errors(engine: Engine, subject: Subject, name: str, clips: ClipSet) -> list[ErrorCounts]:
    """The model's normalised word errors, clip by clip."""
    heard = hear(engine, load(engine, subject.package, name), clips)
    return [clip.words for clip in count_errors(clips.texts, heard.texts, clips.language)]

"""export: a fine-tuned model becomes the package that is evaluated, registered and served."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.errors import UsageError
from avskrift.logs import redact
from avskrift.storage.atomic import refuse_to_replace, sweep
from avskrift.training.report import TrainingReport, read_report
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import DESCRIPTION_FILE, DatasetSummary, EncoderContext, ModelPackage
from avskrift.whisper.round_trip import Sample

_SAMPLE_CLIPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``model`` and ``training`` are what fine_tune wrote; ``out`` gets the package.

    ``dataset`` is what the model was trained on, for the card, and for a sample that the converted model must write as the model
    does; None leaves out both.
    """

    model: str | Path
    training: str | Path
    out: str | Path
    dataset: str | Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The package and the digest of its bytes."""

    package: ModelPackage
    sha256: str


def run(config: Config) -> Result:
    """Export to ``hf/``, ``ct2/`` and ``model.json``.

    Raises:
        StorageError: ``config.out`` holds something else, or cannot be written; nothing is left half written.
        TrainingError: the training report is missing.
        UsageError, DatasetError: the dataset is not the one that was trained on, or cannot be read.
        PackageError: CTranslate2 refuses the model, or makes another model of it.
        ModelUnavailableError: ``config.model`` is not a Whisper in safetensors.
    """
    out = Path(config.out)
    refuse_to_replace(out, unless=DESCRIPTION_FILE)
    training = read_report(Path(config.training))
    dataset = _dataset(Path(config.dataset), training) if config.dataset else None
    provenance = Provenance(
        base_model=training.base_model,
        base_model_sha256=training.base_model_sha256,
        languages=(training.language,),
        # The trainer met windows of every length, so the model may be given what a clip lasts.
        encoder_context=EncoderContext(policy="variable"),
        dataset_fingerprint=training.dataset_fingerprint,
        dataset=_summary(dataset) if dataset else None,
        training=training.parameters,
    )
    sweep(out.parent)  # a run that was killed may have left half a package
    package = export_package(Path(config.model), out, provenance, sample=_sample(dataset, training.language) if dataset else None)
    return Result(package=package, sha256=package.description.sha256)


def _dataset(folder: Path, training: TrainingReport) -> Dataset:
    dataset = open_dataset(folder)
    if dataset.description.fingerprint != training.dataset_fingerprint:
        raise UsageError(
            f"{folder} is dataset {dataset.description.fingerprint}, and the model was trained on {training.dataset_fingerprint};"
            " give that one, or none"
        )
    return dataset


def _summary(dataset: Dataset) -> DatasetSummary:
    described = dataset.description
    hours = {split: held.hours for split, held in described.splits.items()}
    return DatasetSummary(source=redact(described.source), licence=described.licence, hours=hours)


def _sample(dataset: Dataset, language: str) -> Sample | None:
    """Some clips that the model was not trained on, as they are stored; None where there are none."""
    unseen = chain(dataset.clips("validation"), dataset.clips("test"))
    clips = [clip.samples() for clip in islice((clip for clip in unseen if clip.duration_s <= WINDOW_SECONDS), _SAMPLE_CLIPS)]
    return Sample(clips=clips, language=language) if clips else None

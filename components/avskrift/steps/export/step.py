"""export: a fine-tuned model becomes the package that is evaluated, registered and served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.training.report import read_report
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import EncoderContext, ModelPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``model`` and ``training`` are what fine_tune wrote; ``out`` gets the package."""

    model: Path
    training: Path
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The package and the digest of its bytes."""

    package: ModelPackage
    sha256: str


def run(config: Config) -> Result:
    """Export to ``hf/``, ``ct2/`` and ``model.json``.

    Raises:
        TrainingError: the training report is missing.
        PackageError: CTranslate2 refuses the model.
        ModelUnavailableError: ``config.model`` is not a Whisper in safetensors.
    """
    training = read_report(config.training)
    provenance = Provenance(
        base_model=training.base_model,
        base_model_sha256=training.base_model_sha256,
        languages=(training.language,),
        # The trainer met windows of every length, so the model may be given what a clip lasts.
        encoder_context=EncoderContext(policy="variable"),
        dataset_fingerprint=training.dataset_fingerprint,
        training=training.parameters,
    )
    package = export_package(config.model, config.out, provenance)
    return Result(package=package, sha256=package.description.sha256)

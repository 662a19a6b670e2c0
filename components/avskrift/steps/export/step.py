"""export: a fine-tuned model becomes the package that is evaluated, registered and served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.storage.atomic import refuse_to_replace, sweep
from avskrift.training.report import read_report
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import DESCRIPTION_FILE, EncoderContext, ModelPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``model`` and ``training`` are what fine_tune wrote; ``out`` gets the package."""

    model: str | Path
    training: str | Path
    out: str | Path


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
        PackageError: CTranslate2 refuses the model.
        ModelUnavailableError: ``config.model`` is not a Whisper in safetensors.
    """
    out = Path(config.out)
    refuse_to_replace(out, unless=DESCRIPTION_FILE)
    training = read_report(Path(config.training))
    provenance = Provenance(
        base_model=training.base_model,
        base_model_sha256=training.base_model_sha256,
        languages=(training.language,),
        # The trainer met windows of every length, so the model may be given what a clip lasts.
        encoder_context=EncoderContext(policy="variable"),
        dataset_fingerprint=training.dataset_fingerprint,
        training=training.parameters,
    )
    sweep(out.parent)  # a run that was killed may have left half a package
    package = export_package(Path(config.model), out, provenance)
    return Result(package=package, sha256=package.description.sha256)

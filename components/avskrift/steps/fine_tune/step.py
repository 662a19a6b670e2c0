"""fine_tune: a dataset and a base model become a better model and the story of its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from avskrift.corpus.dataset import open_dataset
from avskrift.storage.atomic import atomic_folder, refuse_to_replace, sweep
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, job_digest, train
from avskrift.training.report import TRAINING_FILE, TrainingReport, write_report
from avskrift.whisper.transformers_folder import open_model

_MODEL_FILE = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``out`` gets the ``transformers`` folder, ``report`` ``training.json`` and ``curves.jsonl``.

    Checkpoints go to ``checkpoints``, by default ``checkpoints/`` in Avskrift's state folder; the language is the dataset's.
    """

    dataset: str | Path
    base_model: str
    out: str | Path
    report: str | Path
    checkpoints: str | Path | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where the model and its report are, and what training came to."""

    model: Path
    report: Path
    training: TrainingResult


def run(config: Config) -> Result:
    """Fine-tune; resumes from checkpoints of the same job.

    Raises:
        StorageError: a folder to write holds something else, or cannot be written; nothing is left half written.
        DatasetError: ``config.dataset`` is not a dataset folder.
        LanguageError: the base model does not know the dataset's language.
        ModelUnavailableError: the base model cannot be had.
        UsageError: a device that this machine does not have.
        TrainingError: training cannot start or must not go on.
        CheckpointError: there are checkpoints of the same job, but none that is whole.
    """
    out, report = Path(config.out), Path(config.report)
    refuse_to_replace(out, unless=_MODEL_FILE)
    refuse_to_replace(report, unless=TRAINING_FILE)
    dataset = open_dataset(Path(config.dataset))
    training = replace(config.training, language=check_language(dataset.description.language))
    base = open_model(config.base_model)
    base_sha256 = manifest_digest(digest_folder(base))
    job = job_digest(base_sha256, dataset.description.fingerprint, training)
    checkpoints = Checkpoints(Path(config.checkpoints or home() / "checkpoints"), job)
    for parent in {out.parent, report.parent}:
        sweep(parent)  # a run that was killed may have left half a model
    with atomic_folder(out) as folder:
        result = train(base, dataset, training, checkpoints=checkpoints, out=folder)
    story = TrainingReport(
        base_model=config.base_model,
        base_model_sha256=base_sha256,
        dataset_fingerprint=dataset.description.fingerprint,
        language=training.language,
        parameters=asdict(training) | {"base_model": config.base_model, "learning_rate": result.learning_rate},
        result={name: value for name, value in asdict(result).items() if name != "curve"},
    )
    write_report(report, story, result.curve)
    checkpoints.remove()
    return Result(model=out, report=report, training=result)

"""fine_tune: a dataset and a base model become a better model and the story of its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from avskrift.corpus.dataset import open_dataset
from avskrift.storage.atomic import atomic_folder
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, train
from avskrift.training.report import TrainingReport, write_report
from avskrift.whisper.export import transformers_digest
from avskrift.whisper.transformers_folder import open_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``out`` gets the ``transformers`` folder, ``report`` ``training.json`` and ``curves.jsonl``.

    Checkpoints go to ``checkpoints``, by default ``checkpoints/`` in Avskrift's state folder; the language is the dataset's.
    """

    dataset: Path
    base_model: str
    out: Path
    report: Path
    checkpoints: Path | None = None
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
        DatasetError: ``config.dataset`` is not a dataset folder.
        LanguageError: the base model does not know the dataset's language.
        ModelUnavailableError: the base model cannot be had.
        TrainingError: training cannot start or must not go on.
    """
    dataset = open_dataset(config.dataset)
    training = replace(config.training, language=check_language(dataset.description.language))
    base = open_model(config.base_model)
    with atomic_folder(config.out) as out:
        result = train(base, dataset, training, checkpoints=config.checkpoints or home() / "checkpoints", out=out)
    report = TrainingReport(
        base_model=config.base_model,
        base_model_sha256=transformers_digest(base),
        dataset_fingerprint=dataset.description.fingerprint,
        language=training.language,
        parameters=asdict(training) | {"base_model": config.base_model, "learning_rate": result.learning_rate},
        result={name: value for name, value in asdict(result).items() if name != "curve"},
    )
    write_report(config.report, report, result.curve)
    return Result(model=config.out, report=config.report, training=result)

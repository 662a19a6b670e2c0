"""evaluate: the candidate and the model that serves today, on the same clips, through the engine that serves."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avskrift.corpus.dataset import SPLITS, Dataset, open_dataset
from avskrift.errors import UsageError
from avskrift.evaluation.evaluate import BATCH_SIZE, Load, Subject, evaluate
from avskrift.evaluation.folder import write_evaluation
from avskrift.evaluation.result import REPORT_FILE, Evaluation
from avskrift.storage.atomic import atomic_file, sweep
from avskrift.text.languages import check_language
from avskrift.whisper.export import as_package
from avskrift.whisper.transcriber import load_transcriber


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to measure on what. ``language`` None takes the dataset's; ``threads`` 0 leaves their number to the engine."""

    package_uri: str
    dataset: str | Path
    baseline_uri: str
    out: str | Path
    language: str | None = None
    split: str = "test"
    device: str = "auto"
    threads: int = 0
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The evaluation folder and what its ``evaluation.json`` holds."""

    folder: Path
    evaluation: Evaluation

    def metrics(self) -> dict[str, float]:
        """The figures for people who compare runs; rates as fractions."""
        before, after, difference = self.evaluation.baseline, self.evaluation.candidate, self.evaluation.wer_difference
        return {
            "wer_before": before.wer.value,
            "wer_after": after.wer.value,
            "wer_after_low": after.wer.low,
            "wer_after_high": after.wer.high,
            "wer_difference": difference.value,
            "wer_difference_low": difference.low,
            "wer_difference_high": difference.high,
            "cer_before": before.cer.value,
            "cer_after": after.cer.value,
            "clips": float(self.evaluation.clips),
            "audio_seconds_per_second": after.audio_seconds_per_second,
        }

    def copy_report(self, target: str | Path) -> None:
        """Copy the report to ``target``, a file: an HTML artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_file(Path(target)) as temporary:
            shutil.copyfile(self.folder / REPORT_FILE, temporary)


def run(config: Config) -> Result:
    """Write the evaluation folder ``config.out``.

    Raises:
        UsageError: a split, batch size or number of threads that cannot be.
        LanguageError: a language that Whisper, or one of the models, does not know.
        DatasetError, ModelUnavailableError, PackageError, IntegrityError: the dataset or a package cannot be used.
        EvaluationError: what came out cannot be trusted.
        DiskFullError, StorageError: the folder cannot be written.
    """
    return run_with(config, partial(load_transcriber, device=config.device, threads=config.threads))


def run_with(config: Config, load: Load) -> Result:
    """:func:`run`, with the engine that ``load`` opens."""
    _check(config)
    folder = Path(config.out)
    sweep(folder.parent)  # a run that was killed may have left half an evaluation
    dataset = open_dataset(Path(config.dataset))
    language = _language(config, dataset)
    evaluation, clips = evaluate(
        dataset,
        config.split,
        candidate=_subject(config.package_uri),
        baseline=_subject(config.baseline_uri),
        language=language,
        load=load,
        batch_size=config.batch_size,
    )
    write_evaluation(folder, evaluation, clips)
    return Result(folder=folder, evaluation=evaluation)


def _check(config: Config) -> None:
    if config.split not in SPLITS:
        raise UsageError(f"split {config.split!r} is none of {', '.join(SPLITS)}")
    if config.batch_size < 1:
        raise UsageError(f"batch size {config.batch_size}: transcribe at least one clip at a time")
    if config.threads < 0:
        raise UsageError(f"threads {config.threads}: give their number, or 0 to leave it to the engine")


def _language(config: Config, dataset: Dataset) -> str:
    return check_language(config.language or dataset.description.language)


def _subject(uri: str) -> Subject:
    package = as_package(uri)
    package.verify()  # measure the bytes on record, or nothing
    return Subject(uri=uri, package=package)

"""evaluate: the candidate, the model that serves today and others, on the same clips, through the engine that serves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from avskrift.corpus.dataset import SPLITS, Dataset, open_dataset
from avskrift.errors import DatasetError, IntegrityError, ModelUnavailableError, UsageError
from avskrift.evaluation.check_names import CHECKS, check_names
from avskrift.evaluation.clip_audio import shown_audio
from avskrift.evaluation.evaluate import evaluate
from avskrift.evaluation.folder import write_evaluation
from avskrift.evaluation.hearing import BATCH_SIZE, Engine
from avskrift.evaluation.hypothesis_cache import hypothesis_cache
from avskrift.evaluation.machine import machine
from avskrift.evaluation.result import REPORT_FILE, RESULT_FILE, Evaluation
from avskrift.evaluation.result_figures import metrics
from avskrift.evaluation.retention import base_of, measure_retention
from avskrift.evaluation.subject import BASELINE, CANDIDATE, Load, Subject, blaming, other
from avskrift.storage.atomic import atomic_file, refuse_to_replace, sweep
from avskrift.storage.door import fetch
from avskrift.text.languages import check_language
from avskrift.whisper.export import as_package
from avskrift.whisper.transcriber import load_transcriber


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to measure on what.

    ``baseline_sha256`` is the digest on record of the baseline's package; "" where none is. ``others`` are more models to measure
    beside the two. ``language`` None takes the dataset's; ``threads`` 0 leaves their number to the engine. ``checks`` are those of
    :data:`CHECKS` that run. ``retention_dataset`` names a second dataset, on which the candidate is compared with the model that it
    was trained from; "" for none. ``use_cache``: whether texts that a model was heard to give before are kept and used.
    """

    package_uri: str
    dataset: str | Path
    baseline_uri: str
    out: str | Path
    baseline_sha256: str = ""
    others: Sequence[str] = ()
    language: str | None = None
    split: str = "test"
    checks: Sequence[str] = CHECKS
    retention_dataset: str | Path = ""
    use_cache: bool = True
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
        return metrics(self.evaluation)

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
        UsageError: a split, check, batch size or number of threads that cannot be.
        LanguageError: a language that Whisper, or one of the models, does not know.
        DatasetError: a dataset cannot be read.
        ModelUnavailableError, PackageError, IntegrityError: a model cannot be used; the message says which.
        EvaluationError: what came out cannot be trusted.
        DiskFullError, StorageError: the folder cannot be written, or holds what evaluate did not write.
    """
    return run_with(config, partial(load_transcriber, device=config.device, threads=config.threads))


def run_with(config: Config, load: Load) -> Result:
    """:func:`run`, with the engine that ``load`` opens."""
    _check(config)
    checks = check_names(config.checks)
    folder = Path(config.out)
    refuse_to_replace(folder, unless=RESULT_FILE)
    sweep(folder.parent)  # a run that was killed may have left half an evaluation
    dataset = open_dataset(Path(config.dataset))
    language = check_language(config.language or dataset.description.language)
    candidate, baseline = _subject(config.package_uri, CANDIDATE), _subject(config.baseline_uri, BASELINE, config.baseline_sha256)
    others = [_subject(uri, other(number)) for number, uri in enumerate(config.others, start=1)]
    # What retention needs is had before hours of transcription, not after.
    second = _second_dataset(str(config.retention_dataset)) if str(config.retention_dataset).strip() else None
    base = base_of(candidate) if second else None
    engine = Engine(load=load, machine=machine(), batch_size=config.batch_size, cache=hypothesis_cache() if config.use_cache else None)
    evaluation, clips = evaluate(
        dataset,
        config.split,
        candidate=candidate,
        baseline=baseline,
        others=others,
        language=language,
        engine=engine,
        checks=checks,
    )
    if second and base:
        evaluation = replace(evaluation, retention=measure_retention(candidate, base, second, engine))
    audio = shown_audio(dataset, config.split, clips)
    return Result(folder=folder, evaluation=write_evaluation(folder, evaluation, clips, candidate.package.description, audio))


def _check(config: Config) -> None:
    if config.split not in SPLITS:
        raise UsageError(f"split {config.split!r} is none of {', '.join(SPLITS)}")
    if config.batch_size < 1:
        raise UsageError(f"batch size {config.batch_size}: transcribe at least one clip at a time")
    if config.threads < 0:
        raise UsageError(f"threads {config.threads}: give their number, or 0 to leave it to the engine")


def _subject(uri: str, name: str, sha256: str = "") -> Subject:
    """Measure the bytes on record, or nothing."""
    with blaming(name):
        package = as_package(uri)
        package.verify()
        if sha256 not in ("", package.description.sha256):
            raise IntegrityError(
                f"{uri} holds the package {package.description.sha256}, and {sha256} is on record; restore it, or name another model"
            )
    return Subject(uri=uri, package=package)


def _second_dataset(uri: str) -> Dataset:
    try:
        return open_dataset(fetch(uri))
    except ModelUnavailableError as error:
        raise DatasetError(f"retention dataset {uri}: there is none; name a folder that prepare wrote, or the s3:// URI of one") from error

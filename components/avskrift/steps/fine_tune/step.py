"""fine_tune: a dataset and a base model become a better model and the story of its training."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.errors import UsageError
from avskrift.registry.live import open_live
from avskrift.steps.boundary import RUN_ID_VARIABLE
from avskrift.steps.fine_tune.launch import run_on_all
from avskrift.steps.fine_tune.places import as_s3, check_writable, one_at_a_time, source_folder, target
from avskrift.storage.atomic import atomic_file, atomic_folder, refuse_to_replace, sweep
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World, under_torchrun, world_of_environment
from avskrift.training.hardware import processes_here
from avskrift.training.loop import TrainingResult, job_digest, train
from avskrift.training.report import REPORT_FILE, TRAINING_FILE, TrainingReport, write_report
from avskrift.training.tracking import NoTracker, Tracker
from avskrift.whisper.transformers_folder import open_model

_MODEL_FILE = "config.json"
_COMPILED_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``out`` gets the ``transformers`` folder, ``report`` ``training.json``, curves, examples and a page.

    Inputs and results are folders or URIs: ``s3://``, which Kubeflow also calls ``minio://``, and for inputs whatever else the door
    to storage knows. Of a machine's processes one fetches; the first process of all puts the results, each whole or not at all.
    Checkpoints go to ``checkpoints``, a folder or an ``s3://`` prefix, by default ``checkpoints/`` in Avskrift's state folder;
    the language is the dataset's. With a ``pipeline_run_id``, by default what ``KFP_RUN_ID`` says, the figures of each step go to
    MLflow while it trains: to that run, or to the one of its ``trial``.
    """

    dataset: str | Path
    base_model: str
    out: str | Path
    report: str | Path
    checkpoints: str | Path | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    experiment: str = ""
    pipeline_run_id: str = ""
    trial: str = ""
    tracking_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The folders of this machine that the model and its report were written to, and what training came to."""

    model: Path
    report: Path
    training: TrainingResult

    def copy_page(self, target: str | Path) -> None:
        """Copy the report's page to ``target``, a file: an HTML artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_file(Path(target)) as temporary:
            shutil.copyfile(self.report / REPORT_FILE, temporary)

    def figures(self) -> dict[str, float]:
        """What a pipeline shows of the step; ``train_loss`` is the last step's, and left out where there is none that is finite."""
        training = self.training
        losses = [value for _, name, value in training.curve if name == "train_loss"]
        figures = {
            "validation_wer": training.best_wer,
            "best_step": training.best_step,
            "steps": training.steps,
            "epochs": training.epochs,
            "train_clips": training.train_clips,
            "validation_clips": training.validation_clips,
            "learning_rate": training.learning_rate,
            "batch_seconds": training.batch_seconds,
            "processes": training.processes,
        }
        figures |= {"train_loss": losses[-1]} if losses else {}
        return {name: float(value) for name, value in (figures | asdict(training.speed)).items() if math.isfinite(value)}


def run(config: Config) -> Result:
    """Fine-tune; resumes from checkpoints of the same job. Starts torchrun itself where the machine has several GPUs.

    Raises:
        StorageError: a folder to write holds something else, or cannot be written; a store refused. Nothing is left half written.
        DatasetError: ``config.dataset`` is not a dataset folder.
        LanguageError: the base model does not know the dataset's language.
        ModelUnavailableError: the base model cannot be had.
        UsageError: a device that this machine does not have; a place that results cannot be put at.
        TrainingError: training cannot start or must not go on.
        PreemptedError: SIGTERM came while it trained; run it again to go on.
        CheckpointError: there are checkpoints of the same job, but none that is whole, or of other steps than are planned here.
    """
    model_target, report_target, world = target(config.out), target(config.report), world_of_environment()
    out, report = model_target.folder, report_target.folder
    refuse_to_replace(out, unless=_MODEL_FILE)
    refuse_to_replace(report, unless=TRAINING_FILE)
    _refuse_one_in_the_other(out, report)
    place = config.checkpoints or home() / "checkpoints"
    check_writable(place)  # now: the first checkpoint is written after minutes on a GPU
    dataset, base = _inputs(config, world)
    training = replace(config.training, language=check_language(dataset.description.language))
    processes = processes_here(training)
    if processes > 1 and not under_torchrun():
        return Result(model=out, report=report, training=run_on_all(config, processes))

    base_sha256 = manifest_digest(digest_folder(base))
    job = job_digest(base_sha256, dataset.description.fingerprint, training)
    checkpoints = Checkpoints(place, job, keep=training.checkpoints_kept)
    os.environ.setdefault(_COMPILED_VARIABLE, str(home() / "compiled"))  # where a second try finds what the first compiled
    with _written(out, report, world) as folder, _tracker(config, job, world) as tracker:
        result = train(base, dataset, training, checkpoints=checkpoints, out=folder, tracker=tracker)
    if world.first:
        story = TrainingReport(
            base_model=config.base_model,
            base_model_sha256=base_sha256,
            dataset_fingerprint=dataset.description.fingerprint,
            language=training.language,
            parameters=asdict(training)
            | {"base_model": config.base_model, "learning_rate": result.learning_rate, "batch_seconds": result.batch_seconds},
            result={name: value for name, value in asdict(result).items() if name not in ("curve", "examples", "speed")}
            | asdict(result.speed),
        )
        write_report(report, story, result.curve, result.examples)
        model_target.deliver(last=_MODEL_FILE)
        report_target.deliver(last=TRAINING_FILE)
        checkpoints.remove()  # not before: what was lost on its way would have to be trained again
    return Result(model=out, report=report, training=result)


def _refuse_one_in_the_other(out: Path, report: Path) -> None:
    """Each is replaced whole, and would take the other with it."""
    model, story = out.resolve(), report.resolve()
    if model.is_relative_to(story) or story.is_relative_to(model):
        raise UsageError(f"the model ({out}) and its report ({report}) would overwrite each other; name two folders, neither in the other")


def _inputs(config: Config, world: World) -> tuple[Dataset, Path]:
    """The dataset, and the folder of the base model."""
    with one_at_a_time(config.dataset, config.base_model) if world.local_size > 1 else nullcontext():
        return open_dataset(source_folder(config.dataset)), open_model(as_s3(config.base_model))


@contextmanager
def _written(out: Path, report: Path, world: World) -> Iterator[Path]:
    """The folder that becomes ``out``; only the first process writes one."""
    if world.first:
        for parent in {out.parent, report.parent}:
            sweep(parent)  # a run that was killed may have left half a model
    with atomic_folder(out) if world.first else nullcontext(out) as folder:
        yield folder


@contextmanager
def _tracker(config: Config, job: str, world: World) -> Iterator[Tracker]:
    """Figures go to MLflow from the first process, where the run that they belong to is known."""
    live = None
    if world.first:
        spool = home() / "metrics" / f"{job[:16]}.jsonl"
        pipeline_run_id = config.pipeline_run_id or os.environ.get(RUN_ID_VARIABLE, "")
        run = {"pipeline_run_id": pipeline_run_id, "experiment": config.experiment, "trial": config.trial}
        live = open_live(tracking_uri=config.tracking_uri, spool=spool, **run)
    tracker = live or NoTracker()
    try:
        yield tracker
    finally:
        tracker.close()

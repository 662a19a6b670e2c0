"""The training loop, from top to bottom."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperForConditionalGeneration

from avskrift import logs
from avskrift.corpus.dataset import Dataset
from avskrift.errors import PreemptedError, TrainingError
from avskrift.progress import progress as shown_progress
from avskrift.training import preemption
from avskrift.training.adapters import merged, prepare_parameters, trained_parameters
from avskrift.training.average import Average
from avskrift.training.checkpoint import Checkpoints, Progress, load_weights, optimizer_tensors, restore_optimizer
from avskrift.training.clips import StoredClips
from avskrift.training.config import TrainingConfig, learning_rate_factor
from avskrift.training.distributed import World, joined
from avskrift.training.examples import Batch, BatchMaker, measure
from avskrift.training.hardware import choose_device, choose_memory, choose_precision, preset_of
from avskrift.training.loader import batches, worker_count
from avskrift.training.meter import Finished, Meter, Speed, Work
from avskrift.training.optimisation import Optimisation
from avskrift.training.plan import Shape, Step
from avskrift.training.planning import Planner
from avskrift.training.story import Story
from avskrift.training.tracking import NoTracker, System, Tracker
from avskrift.training.validation import validate
from avskrift.training.windows import step_seconds
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, WEIGHTS_FILE, copy_companions, load_model

_log = logs.Log("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What training came to; ``curve`` holds (step, name, value) of train_loss, learning_rate and validation_wer.

    ``epochs`` counts those that were begun, ``steps`` those done. ``examples`` holds (step, clip_id, said, heard) of a few
    validation clips. ``speed`` is that of this process since it was started.
    """

    steps: int
    epochs: int
    best_step: int
    best_wer: float
    train_clips: int
    validation_clips: int
    learning_rate: float
    batch_seconds: float
    compiled: str
    processes: int
    speed: Speed
    curve: tuple[tuple[int, str, float], ...]
    examples: tuple[tuple[int, str, str, str], ...] = ()


def train(
    base: Path, dataset: Dataset, config: TrainingConfig, *, checkpoints: Checkpoints, out: Path, tracker: Tracker | None = None
) -> TrainingResult:
    """Fine-tune the ``transformers`` Whisper in ``base`` on ``dataset`` and write the best model into the folder ``out``.

    A killed run that is started again with the same arguments goes on from its newest whole checkpoint. The checkpoints
    are left for the caller to remove, once what came of the training is safe. Under torchrun each process calls this with
    the same arguments; the first one alone reads checkpoints and writes.

    Raises:
        UsageError: a device that this machine does not have.
        LanguageError: the base model does not know ``config.language``.
        DatasetError: a clip's audio is not what the dataset says.
        TrainingError: data that cannot be trained on, or a loss or gradient that is not finite.
        PreemptedError: SIGTERM came; the state is saved.
        CheckpointError: checkpoints are there, but none is whole, or they are of a run of other steps.
        DiskFullError: no space for a checkpoint; the ones before are intact.
    """
    with ExitStack() as stack:
        world = stack.enter_context(joined("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"))
        run = _Run(base, dataset, config, checkpoints, world, tracker or NoTracker())
        told = stack.enter_context(preemption.watched())
        made = stack.enter_context(run.batches())
        stack.enter_context(checkpoints if world.first else nullcontext())
        with shown_progress("fine-tune", total=run.total, done=run.story.step, unit="steps", shown=world.first) as bar:
            while True:
                if run.validation_is_due() and not run.validate(stop=told):
                    run.preempt()
                bar.advance(*run.news())
                if run.story.step == run.total or run.stops_early():
                    break
                run.step(made)
                if world.any(told()):
                    run.preempt()
                run.save_now_and_then()
        run.finish(out)
        return run.result()


def job_digest(base_sha256: str, dataset_fingerprint: str, config: TrainingConfig) -> str:
    """A digest of all that decides training's outcome: checkpoints of one job never serve another."""
    return hashlib.sha256(json.dumps([base_sha256, dataset_fingerprint, config.decisive()], sort_keys=True).encode()).hexdigest()


class _Run:
    """What a run holds, and the moves that the loop is made of."""

    def __init__(
        self, base: Path, dataset: Dataset, config: TrainingConfig, checkpoints: Checkpoints, world: World, tracker: Tracker
    ) -> None:
        self._base, self._config, self._checkpoints, self._world, self._tracker = base, config, checkpoints, world, tracker
        self._device = choose_device(config.device, world.local_rank)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)  # adapters begin at random
        self._tokens = WhisperTokens(base / TOKENIZER_FILE)
        self._tokens.prompt(config.language)  # refuses an unknown language before anything is read
        self._clips, self._validation = StoredClips(dataset, "train"), StoredClips(dataset, "validation")
        self._sizes = measure(self._clips.described, self._tokens)
        self._batch_seconds = step_seconds(self._sizes, config)

        self._model = load_model(base, self._device)
        prepare_parameters(self._model, config)
        for layer in (*self._model.model.encoder.layers, *self._model.model.decoder.layers):
            layer.activation_dropout = config.activation_dropout  # a layer reads the model's configuration when it is made, and never again
        self._precision = choose_precision(config.precision, self._device)
        # One plan for all: GPUs that differ in what is free must not cut the steps differently.
        memory = world.from_first(choose_memory(self._model, config, self._device, step_seconds=self._batch_seconds / world.size))
        if memory.checkpointed:
            self._model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        restored = checkpoints.resume() if world.first else None
        known: tuple[Progress, dict[str, Any]] | None = world.from_first((restored.progress, restored.settings) if restored else None)
        progress, settings = known or (Progress(), {})
        self._planner = Planner(
            clips=self._clips.described,
            sizes=self._sizes,
            config=config,
            model=self._model.config,
            device=self._device,
            precision=self._precision,
            world=world,
        )
        made = settings.get("plan", {})  # older checkpoints do not say
        self._plan, self.compiled = self._planner.choose(memory.at_once_seconds, buckets=made.get("buckets"))
        self.total = len(self._plan.steps)
        self._check_plan(progress.step, of=made.get("steps"))

        self._rate = config.learning_rate or preset_of(self._model.config).learning_rate
        self._optimisation = Optimisation(
            self._model,
            config,
            precision=self._precision,
            compiled=self.compiled,
            world=world,
            replayed=memory.replayed and self._plan.buckets > 0,
        )
        self._weights = trained_parameters(self._model)
        self._average = Average(self._weights, config.ema_decay) if config.ema_decay else None
        self.meter, self._system = Meter(self._device), System()
        self._met_shapes: set[Shape | None] = set()
        self._news, self._last_loss = 0, math.nan
        self.story = Story(progress)
        if known:
            self._put_back(restored.parts if restored else {}, settings)
        self._saved_at = time.monotonic()
        self._model.train()
        _log.info(
            "training.started",
            clips=len(self._clips),
            steps=self.total,
            from_step=self.story.step,
            device=str(self._device),
            processes=world.size,
            precision=_name(self._precision),
            compiled=self.compiled,
            batch_seconds=round(self._batch_seconds, 1),
            learning_rate=self._rate,
        )

    # What the loop does

    @contextmanager
    def batches(self) -> Iterator[Iterator[Batch]]:
        """This process's batches from the first step that is not done, in order."""
        steps = list(enumerate(self._plan.steps))[self.story.step :]
        mine = [(number, part) for number, step in steps for part in self._planner.mine(step)]
        maker = BatchMaker(self._clips, self._base / TOKENIZER_FILE, self._config)
        workers = worker_count(self._config.workers, self._device, self._world.local_size)
        with batches(mine, maker, seed=self._config.seed, workers=workers, device=self._device) as made:
            yield made

    def step(self, made: Iterator[Batch]) -> None:
        """Do the next step, as far as this process has a part in it."""
        number = self.story.step
        step = self._plan.steps[number]
        held = [next(made) for _ in self._planner.mine(step)]
        rate = self._rate * learning_rate_factor(
            number, total=self.total, warmup_share=self._config.warmup_share, schedule=self._config.schedule
        )
        self.meter.begin()
        outcome = self._optimisation.step(held, number=number, rate=rate)
        if self._average:
            self._average.update(number + 1)
        self.story.did(number + 1, rate)
        self._told(self.meter.end(number, outcome, self._work(step)))

    def news(self) -> tuple[int, dict[str, float]]:
        """Steps of which the loss became known since this was last asked, and figures to show beside them."""
        news, self._news = self._news, 0
        return news, ({"loss": self._last_loss} if news else {}) | self.meter.recent()

    def validation_is_due(self) -> bool:
        step, every = self.story.step, self._config.validate_steps
        ended = step in self._plan.epoch_ends or step == self.total or (every and step % every == 0)
        return bool(step and ended) and not self.story.validated(step)

    def validate(self, stop: Callable[[], bool]) -> bool:
        """Measure the validation WER and keep the weights if they are the best so far; False where SIGTERM cut it short."""
        self._told(self.meter.drain())
        with self._averaged():
            measured = validate(
                self._model,
                self._optimisation.features,
                self._validation,
                [clip.duration_s for clip in self._validation.described],
                self._tokens,
                language=self._config.language,
                precision=self._precision,
                world=self._world,
                stop=stop,
            )
            if measured is None:
                return False
            best = self.story.validate(measured)
            sha256 = self._checkpoints.save_best(self._weights, self.story.step) if best and self._world.first else ""
        if best:
            self.story.best_is(sha256)
        _log.info("training.validated", step=self.story.step, validation_wer=measured.wer)
        self._tracker.log(self.story.step, {"validation_wer": measured.wer})
        return True

    def stops_early(self) -> bool:
        patience = self._config.early_stopping
        return bool(patience) and self.story.progress().worse_validations >= patience

    def save_now_and_then(self) -> None:
        """The last step too: saving the model may fail, and must not cost more than any other moment."""
        due = time.monotonic() - self._saved_at >= self._config.checkpoint_minutes * 60
        if self._world.any(self._world.first and due):
            self._save(wait=False)

    def preempt(self) -> None:
        """Save, and leave.

        Raises:
            PreemptedError: always.
        """
        self._save(wait=True)
        # Together: where one has left, torchrun gives the others 30 s, and the first may still be writing.
        self._world.any(False)
        raise PreemptedError(f"stopped by SIGTERM after step {self.story.step} of {self.total}, which is saved; run the same command again")

    def finish(self, out: Path) -> None:
        """Write the best model into ``out``, adapters merged."""
        self._told(self.meter.drain())
        if not self._world.first:
            return
        self._checkpoints.wait()
        load_weights(self._model, self._checkpoints.best(self.story.progress()))
        merged(self._model)
        _save(self._model, self._base, out)

    def result(self) -> TrainingResult:
        progress = self.story.progress()
        assert progress.best_wer is not None, "the last step validates"
        return TrainingResult(
            steps=progress.step,
            epochs=1 + sum(end < progress.step for end in self._plan.epoch_ends),
            best_step=progress.best_step,
            best_wer=progress.best_wer,
            train_clips=len(self._clips),
            validation_clips=len(self._validation),
            learning_rate=self._rate,
            batch_seconds=self._batch_seconds,
            compiled=self.compiled,
            processes=self._world.size,
            speed=self.meter.speed(),
            curve=progress.curve,
            examples=progress.examples,
        )

    # How it does it

    def _check_plan(self, step: int, *, of: int | None) -> None:
        """Refuse checkpoints whose steps are not those of the same numbers here: clips would be left out, or met twice.

        Raises:
            CheckpointError: they are of a plan of another length, or stand beyond the end.
        """
        if step > self.total or of not in (None, self.total):
            stand = f"step {step} of {of}" if of else f"step {step}"
            raise self._checkpoints.refused(
                f"they stand at {stand}, and here the run has {self.total} steps, so that they serve only where they were written"
            )

    def _work(self, step: Step) -> Work:
        mine = self._planner.mine(step)
        shapes = {part.shape for part in mine}
        fresh = bool(shapes - self._met_shapes)
        self._met_shapes |= shapes
        windows = step.windows
        return Work(
            clips=sum(len(window.clips) for window in windows),
            audio_s=sum(window.duration_s for window in windows),
            flops=sum(self._planner.flops(part) for part in mine),
            fresh=fresh,
        )

    def _told(self, finished: list[Finished]) -> None:
        """Note what became known of steps.

        Raises:
            TrainingError: a loss or gradient that is not finite; the weights are those of before that step.
        """
        for one in finished:
            if one.broken:
                what, value = ("loss", one.loss) if not math.isfinite(one.loss) else ("gradient", one.gradient_norm)
                ids = (self._clips.described[index].clip_id for window in self._plan.steps[one.step].windows for index in window.clips)
                raise TrainingError(f"the {what} became {value} on clips {', '.join(ids)}; look at them, or lower the learning rate")
            rate = self.story.loss(one.step + 1, one.loss)
            self._news, self._last_loss = self._news + 1, one.loss
            figures = {"train_loss": one.loss, "learning_rate": rate}
            self._tracker.log(one.step + 1, figures | self.meter.recent() | self._system.figures())

    def _averaged(self) -> AbstractContextManager[None]:
        return self._average.in_place() if self._average else nullcontext()

    def _put_back(self, read: Mapping[str, Mapping[str, torch.Tensor]], settings: Mapping[str, Any]) -> None:
        """Put the state of a checkpoint, which the first process has read, into every process."""
        parts = self._world.tensors_from_first(read)
        load_weights(self._model, parts["weights"])
        restore_optimizer(self._optimisation.optimizer, parts["optimizer"])
        if self._average:
            for name, tensor in self._average.tensors.items():
                tensor.copy_(parts["average"][name])
        before, now = settings.get("precision"), _name(self._precision)
        if self._world.first and before not in (None, now):
            _log.warning("training.precision_changed", before=before, now=now)
        if settings["scaler"]:  # only fp16 has one
            self._optimisation.scaler.load_state_dict(settings["scaler"])

    def _save(self, *, wait: bool) -> None:
        self._told(self.meter.drain())
        self._saved_at = time.monotonic()
        if not self._world.first:
            return
        parts: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._weights,
            "optimizer": optimizer_tensors(self._optimisation.optimizer),
        }
        if self._average:
            parts["average"] = self._average.tensors
        settings = {
            "plan": {"buckets": self._plan.buckets, "steps": self.total},
            "precision": _name(self._precision),
            "scaler": self._optimisation.scaler.state_dict(),
        }
        self._checkpoints.save(parts, self.story.progress(), settings, wait=wait)


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def _save(model: WhisperForConditionalGeneration, base: Path, out: Path) -> None:
    model.save_pretrained(out)
    copy_companions(base, out)
    if not (out / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{out}: the model was saved in shards; a single {WEIGHTS_FILE} is what export reads")

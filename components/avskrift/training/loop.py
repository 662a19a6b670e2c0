"""The training loop, from top to bottom."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from transformers import WhisperForConditionalGeneration

from avskrift import logs
from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip, Dataset
from avskrift.errors import TrainingError, UsageError
from avskrift.progress import progress as shown_progress
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.training.config import TrainingConfig, learning_rate_factor
from avskrift.training.examples import Batch, make_batch, measure
from avskrift.training.validation import validation_wer
from avskrift.training.windows import Window, plan_epoch
from avskrift.whisper.forward import loss as whisper_loss
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import WEIGHTS_FILE, copy_companions, load_model

_log = logs.Log("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What training came to; ``curve`` holds (step, name, value) of train_loss, learning_rate and validation_wer.

    ``epochs`` counts those that were begun.
    """

    steps: int
    epochs: int
    best_step: int
    best_wer: float
    train_clips: int
    validation_clips: int
    learning_rate: float
    curve: tuple[tuple[int, str, float], ...]


def train(base: Path, dataset: Dataset, config: TrainingConfig, *, checkpoints: Checkpoints, out: Path) -> TrainingResult:
    """Fine-tune the ``transformers`` Whisper in ``base`` on ``dataset`` and write the best model into the folder ``out``.

    A killed run that is started again with the same arguments goes on from its newest whole checkpoint. The checkpoints
    are left for the caller to remove, once what came of the training is safe.

    Raises:
        UsageError: a device that this machine does not have.
        LanguageError: the base model does not know ``config.language``.
        DatasetError: a clip's audio is not what the dataset says.
        TrainingError: data that cannot be trained on, or a loss or gradient that is not finite.
        CheckpointError: checkpoints are there, but none is whole.
        DiskFullError: no space for a checkpoint; the ones before are intact.
    """
    device = _device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    clips = _clips(dataset, "train")
    validation = _clips(dataset, "validation")
    tokens = WhisperTokens(base / "tokenizer.json")
    tokens.prompt(config.language)  # refuses an unknown language before anything is loaded
    sizes = measure(clips, tokens)
    model = load_model(base, device)
    features = LogMel(model.config.num_mel_bins).to(device)
    learning_rate = config.learning_rate_for(model.config.d_model)
    optimizer = _optimizer(model, config, learning_rate)

    epochs = [plan_epoch(sizes, config, epoch) for epoch in range(config.epochs)]
    plan = [batch for epoch in epochs for batch in epoch]
    ends = frozenset(accumulate(len(epoch) for epoch in epochs))
    total = min(config.max_steps, len(plan)) if config.max_steps else len(plan)
    progress = checkpoints.resume(model, optimizer) or Progress()
    saved_at = time.monotonic()

    _log.info("training.started", clips=len(clips), steps=total, from_step=progress.step, device=str(device), learning_rate=learning_rate)
    model.train()
    with shown_progress("fine-tune", total=total, done=progress.step, unit="steps") as bar:
        for step, batch in _batches(plan[:total], clips, tokens, config, start=progress.step):
            factor = learning_rate_factor(step, total=total, warmup_share=config.warmup_share)
            value = _step(model, features, optimizer, batch, config, rate=learning_rate * factor)
            point = ((step + 1, "train_loss", value), (step + 1, "learning_rate", learning_rate * factor))
            progress = replace(progress, step=step + 1, curve=progress.curve + point)
            bar.advance(loss=value)
            if step + 1 in ends or step + 1 == total:
                progress = _validate(model, features, validation, tokens, config, progress, checkpoints)
            # The last step too: saving the model may fail, and must not cost more than any other moment.
            if time.monotonic() - saved_at >= config.checkpoint_minutes * 60:
                checkpoints.save(model, optimizer, progress)
                saved_at = time.monotonic()

    checkpoints.load_best(model, progress)
    _save(model, base, out)
    assert progress.best_wer is not None, "the last step validates"
    return TrainingResult(
        steps=total,
        epochs=1 + sum(end < total for end in ends),
        best_step=progress.best_step,
        best_wer=progress.best_wer,
        train_clips=len(clips),
        validation_clips=len(validation),
        learning_rate=learning_rate,
        curve=progress.curve,
    )


def job_digest(base_sha256: str, dataset_fingerprint: str, config: TrainingConfig) -> str:
    """A digest of all that decides training's outcome: checkpoints of one job never serve another."""
    decisive = {name: value for name, value in asdict(config).items() if name not in ("checkpoint_minutes", "device", "threads")}
    return hashlib.sha256(json.dumps([base_sha256, dataset_fingerprint, decisive], sort_keys=True).encode()).hexdigest()


def _step(
    model: WhisperForConditionalGeneration,
    features: LogMel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainingConfig,
    *,
    rate: float,
) -> float:
    """One optimizer step; the loss before it.

    Raises:
        TrainingError: the loss or its gradient is not finite; the weights are those of before.
    """
    device = next(model.parameters()).device
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        loss = whisper_loss(model, features(batch.samples.to(device)), batch.inputs.to(device), batch.labels.to(device))
    value = loss.item()
    _refuse_not_finite("loss", value, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    _refuse_not_finite("gradient", norm.item(), batch)
    optimizer.step()
    return value


def _refuse_not_finite(what: str, value: float, batch: Batch) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"the {what} became {value} on clips {', '.join(batch.clip_ids)}; look at them, or lower the learning rate")


def _validate(
    model: WhisperForConditionalGeneration,
    features: LogMel,
    clips: Sequence[Clip],
    tokens: WhisperTokens,
    config: TrainingConfig,
    progress: Progress,
    checkpoints: Checkpoints,
) -> Progress:
    """Measure the validation WER; keep the weights if they are the best so far."""
    wer = validation_wer(model, features, clips, tokens, language=config.language)
    progress = replace(progress, curve=(*progress.curve, (progress.step, "validation_wer", wer)))
    _log.info("training.validated", step=progress.step, validation_wer=wer)
    if progress.best_wer is None or wer < progress.best_wer:
        sha256 = checkpoints.save_best(model, progress.step)
        progress = replace(progress, best_wer=wer, best_step=progress.step, best_sha256=sha256)
    return progress


def _batches(
    plan: Sequence[Sequence[Window]], clips: Sequence[Clip], tokens: WhisperTokens, config: TrainingConfig, *, start: int
) -> Iterator[tuple[int, Batch]]:
    for step in range(start, len(plan)):
        yield step, make_batch(plan[step], clips, tokens, language=config.language)


def _optimizer(model: WhisperForConditionalGeneration, config: TrainingConfig, rate: float) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, config.beta2), fused=True)


def _clips(dataset: Dataset, split: str) -> list[Clip]:
    clips = list(dataset.clips(split))
    if not clips:
        raise TrainingError(f"{dataset.folder}: the {split} split is empty; training needs train and validation clips")
    return clips


def _device(name: str) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if has_cuda else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not has_cuda or (device.index or 0) >= torch.cuda.device_count()):
        raise UsageError(f"device is {name!r}, and PyTorch finds no such GPU on this machine; use auto or cpu")
    return device


def _save(model: WhisperForConditionalGeneration, base: Path, out: Path) -> None:
    model.save_pretrained(out)
    copy_companions(base, out)
    if not (out / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{out}: the model was saved in shards; a single {WEIGHTS_FILE} is what export reads")

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
from avskrift.errors import TrainingError
from avskrift.progress import progress as shown_progress
from avskrift.storage.manifest import sha256_file
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
    """What training came to; ``curve`` holds (step, name, value) of train_loss, learning_rate and validation_wer."""

    steps: int
    epochs: int
    best_step: int
    best_wer: float
    train_clips: int
    validation_clips: int
    learning_rate: float
    curve: tuple[tuple[int, str, float], ...]


def train(base: Path, dataset: Dataset, config: TrainingConfig, *, checkpoints: Path, out: Path) -> TrainingResult:
    """Fine-tune the ``transformers`` Whisper in ``base`` on ``dataset`` and write the best model into the folder ``out``.

    A killed run that is started again with the same arguments goes on from its newest whole checkpoint in
    ``checkpoints``, where the job has a folder of its own until it is done.

    Raises:
        TrainingError: data that cannot be trained on, or a loss that is not finite.
        CheckpointError: checkpoints are there, but none is whole.
    """
    device = _device(config)
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
    job = _job(base, dataset, config)
    store = Checkpoints(checkpoints / job[:16], job)
    progress = store.resume(model, optimizer) or Progress()
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
                progress = _validate(model, features, validation, tokens, config, progress, store)
            if step + 1 < total and time.monotonic() - saved_at >= config.checkpoint_minutes * 60:
                store.save(model, optimizer, progress)
                saved_at = time.monotonic()

    store.load_best(model)
    _save(model, base, out)
    store.remove()
    assert progress.best_wer is not None, "the last step validates"
    return TrainingResult(
        steps=total,
        epochs=config.epochs,
        best_step=progress.best_step,
        best_wer=progress.best_wer,
        train_clips=len(clips),
        validation_clips=len(validation),
        learning_rate=learning_rate,
        curve=progress.curve,
    )


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
        TrainingError: the loss is not finite; the weights are those of before.
    """
    device = next(model.parameters()).device
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        loss = whisper_loss(model, features(batch.samples.to(device)), batch.inputs.to(device), batch.labels.to(device))
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingError(f"the loss became {value} on clips {', '.join(batch.clip_ids)}; look at them, or lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    optimizer.step()
    return value


def _validate(
    model: WhisperForConditionalGeneration,
    features: LogMel,
    clips: Sequence[Clip],
    tokens: WhisperTokens,
    config: TrainingConfig,
    progress: Progress,
    store: Checkpoints,
) -> Progress:
    """Measure the validation WER; keep the weights if they are the best so far."""
    wer = validation_wer(model, features, clips, tokens, language=config.language)
    progress = replace(progress, curve=(*progress.curve, (progress.step, "validation_wer", wer)))
    _log.info("training.validated", step=progress.step, validation_wer=wer)
    if progress.best_wer is None or wer < progress.best_wer:
        store.save_best(model)
        progress = replace(progress, best_wer=wer, best_step=progress.step)
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


def _device(config: TrainingConfig) -> torch.device:
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _job(base: Path, dataset: Dataset, config: TrainingConfig) -> str:
    """A digest of all that decides training's outcome: checkpoints of one job never serve another."""
    weights = [sha256_file(file) for file in sorted(base.glob("*.safetensors"))]
    decisive = {name: value for name, value in asdict(config).items() if name not in ("checkpoint_minutes", "device", "threads")}
    return hashlib.sha256(json.dumps([weights, dataset.description.fingerprint, decisive], sort_keys=True).encode()).hexdigest()


def _save(model: WhisperForConditionalGeneration, base: Path, out: Path) -> None:
    model.save_pretrained(out)
    copy_companions(base, out)
    if not (out / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{out}: the model was saved in shards; a single {WEIGHTS_FILE} is what export reads")

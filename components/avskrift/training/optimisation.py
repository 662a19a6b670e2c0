"""One optimizer step: parts of it forward and backward, gradients added up over processes, clipped, applied.

Nothing in here waits for a GPU. What a step came to is a small tensor that somebody reads when it is there; a step whose
loss or gradient is not finite changes no weight, and nor does any after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from avskrift import logs
from avskrift.audio.logmel_torch import LogMel
from avskrift.errors import TrainingError
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World
from avskrift.training.examples import Batch
from avskrift.training.replay import Replays
from avskrift.training.spec_augment import spec_augment
from avskrift.whisper.forward import head_loss
from avskrift.whisper.forward import loss as whisper_loss

_MOST_HALVINGS = 2
_BUDGET_OF_SHAPES = 64  # dynamo's own limit of 8 would send the ninth shape back to eager, without a word
_log = logs.Log("training")


class Optimisation:
    """Steps of ``model``'s trained parameters with AdamW."""

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        config: TrainingConfig,
        *,
        precision: torch.dtype,
        compiled: str,
        world: World,
        replayed: bool = False,
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.features = LogMel(model.config.num_mel_bins).to(self.device)
        self._config, self._precision, self._world = config, precision, world
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._gradients = _GradientBuffer(trained)
        self.optimizer = _adamw(trained, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == torch.float16)
        self._broken = torch.zeros((), device=self.device)
        self._loss = _compile(model, compiled)
        self._forward_and_backward = Replays(self._compute) if replayed else self._compute
        self._halvings = 0

    def step(self, batches: Sequence[Batch], *, number: int, rate: float) -> torch.Tensor:
        """Do step ``number`` (from 0) at learning rate ``rate``; (loss, gradient norm, broken), a tensor on the device.

        Raises:
            TrainingError: the GPU's memory does not hold a quarter of a part.
        """
        # The seed is the random state: a resumed run meets the same masks and dropout, on whichever process it trains.
        torch.manual_seed(int(np.random.SeedSequence([self._config.seed, number, self._world.rank]).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._add_gradients(batches)
        self._world.add_up(self._gradients.flat)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        loss, norm = self._gradients.loss, self._gradients.clip(self._config.max_gradient_norm)
        return self._apply(loss, norm)

    def _apply(self, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        sound = torch.isfinite(loss) if self.scaler.is_enabled() else torch.isfinite(loss) & torch.isfinite(norm)
        self._broken = torch.maximum(self._broken, (~sound).float())
        outcome = torch.stack((loss, norm, self._broken))
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # itself leaves out a step that overflowed, and lowers the scale
            self.scaler.update()
        elif self.device.type == "cuda":
            setattr(self.optimizer, "found_inf", self._broken)  # noqa: B010 - the fused kernel reads it, as GradScaler has it do
            self.optimizer.step()
        elif not self._broken:
            self.optimizer.step()
        return outcome

    def _add_gradients(self, batches: Sequence[Batch]) -> None:
        """Gradients of all parts. A part that memory does not hold is halved, at most twice; the sum stays the same."""
        while True:
            try:
                self._gradients.clear()
                for batch in batches:
                    for piece in _pieces(batch, self._halvings):
                        self._backward(piece)
            except torch.OutOfMemoryError as error:
                if self._halvings == _MOST_HALVINGS:
                    raise TrainingError(
                        f"the GPU's memory does not hold a quarter of {max(batch.audio_s for batch in batches):.0f} s of audio;"
                        " set micro_batch_seconds lower, or activation_checkpointing on"
                    ) from error
            else:
                return
            self._halvings += 1
            self._forward_and_backward = self._compute  # recordings hold memory
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning("training.out_of_memory", parts=1 << self._halvings)

    def _backward(self, batch: Batch) -> None:
        moved = batch.to(self.device)
        features = self.features(moved.samples)
        if self._config.spec_augment_share:
            features = spec_augment(features, share=self._config.spec_augment_share)
        share = torch.full((), batch.share, device=self.device)
        self._forward_and_backward(features, moved.inputs, moved.positions, moved.targets, share)

    def _compute(
        self, features: torch.Tensor, inputs: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, share: torch.Tensor
    ) -> None:
        """Add a part's gradients and its part of the loss to the buffer."""
        with self._autocast():
            loss = self._loss(self.model, features, inputs, positions, targets, label_smoothing=self._config.label_smoothing)
        weighted = loss * share
        self._gradients.loss.add_(weighted.detach())
        self.scaler.scale(weighted).backward()  # type: ignore[no-untyped-call]

    def _autocast(self) -> torch.autocast:
        """The context in which the model computes in the chosen precision. Nothing is cast twice within a part."""
        return torch.autocast(self.device.type, dtype=self._precision, enabled=self._precision != torch.float32, cache_enabled=False)


class _GradientBuffer:
    """All gradients in one tensor, and the loss behind them: one addition over processes, one norm, one product to clip."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        count = sum(parameter.numel() for parameter in parameters)
        self.flat = torch.zeros(count + 1, dtype=torch.float32, device=parameters[0].device)
        self._values = self.flat[:-1]
        at = 0
        for parameter in parameters:
            parameter.grad = self.flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()

    @property
    def loss(self) -> torch.Tensor:
        return self.flat[-1]

    def clear(self) -> None:
        self.flat.zero_()

    def clip(self, most: float) -> torch.Tensor:
        """Scale the gradients down to norm ``most``; the norm before."""
        norm: torch.Tensor = torch.linalg.vector_norm(self._values)
        self._values.mul_((most / (norm + 1e-6)).clamp(max=1.0))
        return norm


def _pieces(batch: Batch, halvings: int) -> list[Batch]:
    pieces = [batch]
    for _ in range(halvings):
        pieces = [half for piece in pieces for half in piece.halves()]
    return pieces


def _compile(model: WhisperForConditionalGeneration, how: str) -> Callable[..., torch.Tensor]:
    if how == "off":
        return whisper_loss
    torch._dynamo.config.recompile_limit = _BUDGET_OF_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 4 * _BUDGET_OF_SHAPES
    if how == "whole":
        compiled: Callable[..., torch.Tensor] = torch.compile(whisper_loss, dynamic=False)
        return compiled
    for layer in (*model.model.encoder.layers, *model.model.decoder.layers):
        layer.compile(dynamic=False)
    return partial(whisper_loss, head=torch.compile(head_loss, dynamic=False))


def _adamw(trained: Sequence[torch.nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed."""
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, config.beta2), fused=True)

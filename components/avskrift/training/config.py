"""How to train: typed, with defaults by model size."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from avskrift.errors import UsageError

# OpenAI's advice for fine-tuning: the pre-training rate over 40, by width of the model.
LEARNING_RATES = {384: 3.75e-5, 512: 2.5e-5, 768: 1.25e-5, 1024: 6.25e-6, 1280: 5e-6}
_SMALLEST_KNOWN_WIDTH = min(LEARNING_RATES)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """All that decides what training does, apart from data and base model.

    ``batch_seconds`` is audio a step, padding included; ``packed_share`` is the share of clips that are trained inside
    windows of several clips with timestamps, the rest alone, so that the model reads any encoder context.
    ``learning_rate`` 0 takes the one for the model's width. ``max_steps`` 0 means all epochs. ``max_gradient_norm`` is
    the norm that gradients are clipped to. A kill costs ``checkpoint_minutes`` of work and what was under way; 0 saves each step.

    Raises:
        UsageError: a value that cannot be, by name.
    """

    language: str = "sv"
    epochs: int = 3
    max_steps: int = 0
    learning_rate: float = 0.0
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    beta2: float = 0.98
    max_gradient_norm: float = 1.0
    batch_seconds: float = 40.0
    packed_share: float = 0.5
    seed: int = 1
    checkpoint_minutes: float = 2.0
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_seconds", "max_gradient_norm")
        not_negative = ("max_steps", "learning_rate", "weight_decay", "checkpoint_minutes", "threads", "seed")
        for name in positive + not_negative:
            value = getattr(self, name)
            if not (math.isfinite(value) and (value > 0 if name in positive else value >= 0)):
                raise UsageError(f"{name} is {value}; it must be {'over 0' if name in positive else '0 or more'}")
        for name in ("warmup_share", "packed_share", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1")
        if self.beta2 == 1:
            raise UsageError("beta2 is 1, so that gradients would never be counted; it must be under 1")
        if self.seed >= 1 << 63:
            raise UsageError(f"seed is {self.seed}; it must be under 2**63")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"device is {self.device!r}; use auto, cpu, cuda, or cuda:N for one GPU of several")

    def learning_rate_for(self, width: int) -> float:
        """The configured rate, or the one for models ``width`` features wide."""
        return self.learning_rate or LEARNING_RATES.get(max(width, _SMALLEST_KNOWN_WIDTH), min(LEARNING_RATES.values()))


def learning_rate_factor(step: int, *, total: int, warmup_share: float) -> float:
    """Linear warm-up from 0 to 1, then linear decay to 0 at ``total``; ``step`` counts from 0."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total - step) / max(1, total - warmup))

"""How to train: typed, with defaults by model size. Each field's ``help`` is what command, form and documents say of it."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any

from avskrift.errors import UsageError

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
# What changes where and how fast training runs, and not what comes of it: a job may go on with other values.
_NOT_DECISIVE = (
    "checkpoint_minutes",
    "checkpoints_kept",
    "device",
    "threads",
    "workers",
    "processes",
    "micro_batch_seconds",
    "activation_checkpointing",
)


def _option(
    default: Any,
    help_: str,
    *,
    at_least: float | None = None,
    over: float | None = None,
    at_most: float | None = None,
    one_of: tuple[str, ...] = (),
) -> Any:
    return field(default=default, metadata={"help": help_, "at_least": at_least, "over": over, "at_most": at_most, "one_of": one_of})


def _share(default: float, help_: str) -> Any:
    return _option(default, help_, at_least=0, at_most=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """All that decides what training does, apart from data and base model.

    Raises:
        UsageError: a value that cannot be, by name, or two that cannot be together.
    """

    language: str = _option("sv", "Whisper's code of the dataset's language; fine-tune takes it from the dataset.")
    epochs: int = _option(3, "Passes over the train split.", at_least=1)
    max_steps: int = _option(0, "Stop after so many optimizer steps; 0 for all epochs.", at_least=0)
    learning_rate: float = _option(0.0, "Peak learning rate; 0 for the one that suits the model's size.", at_least=0)
    schedule: str = _option("linear", "How the rate falls after the warm-up: linear or cosine, both to 0.", one_of=("linear", "cosine"))
    warmup_share: float = _share(0.1, "Share of the steps in which the rate rises to its peak.")
    weight_decay: float = _option(0.01, "AdamW's decoupled weight decay, of matrices only.", at_least=0)
    beta2: float = _share(0.98, "AdamW's decay of squared gradients.")
    max_gradient_norm: float = _option(1.0, "Gradients are clipped to this norm.", over=0)
    batch_seconds: float = _option(
        0.0,
        "Seconds of audio in an optimizer step, padding included, over all GPUs; 0 for some 40 steps an epoch, 40 s at least.",
        at_least=0,
    )
    micro_batch_seconds: float = _option(0.0, "Seconds of audio that one GPU takes at once; 0 for what its memory holds.", at_least=0)
    packed_share: float = _share(0.5, "Share of the clips trained inside windows of several clips with timestamps.")
    empty_share: float = _share(0.05, "Windows of silence or noise with an empty transcript, as a share of the clips.")
    previous_text_share: float = _share(0.0, "Share of the windows that are given another sentence as previous text.")
    bpe_dropout: float = _share(0.0, "Share of the merges of subwords that are left out, so that words are met in other pieces.")
    spec_augment_share: float = _share(0.0, "Share of the windows of whose spectrogram stretches of time and bands are masked.")
    speed_share: float = _share(0.0, "Share of the clips that are sped up or slowed down, by at most 10 %.")
    gain_share: float = _share(0.0, "Share of the clips that are made louder or quieter, by at most 12 dB.")
    noise_share: float = _share(0.0, "Share of the clips that get noise, 5 to 30 dB below the speech.")
    label_smoothing: float = _share(0.0, "Share of the probability that is spread over all tokens.")
    activation_dropout: float = _share(0.0, "Dropout inside the feed-forward layers.")
    ema_decay: float = _share(0.0, "Decay a step of the exponential moving average of the weights that is validated and saved; 0 for none.")
    freeze_encoder: bool = _option(False, "Train the decoder only.")
    lora_rank: int = _option(
        0, "Rank of low-rank adapters trained instead of the weights, and merged at the end; 0 for none.", at_least=0, at_most=1024
    )
    lora_alpha: float = _option(0.0, "Scale of the adapters; 0 for twice the rank.", at_least=0)
    precision: str = _option(
        "auto",
        "auto, bf16, fp16 or fp32; auto is bf16 on GPUs that have it, fp16 on older ones, fp32 on CPUs.",
        one_of=("auto", "bf16", "fp16", "fp32"),
    )
    compile: str = _option(
        "auto",
        "torch.compile: off, layers (quick to compile), whole (fastest), or auto, by the work ahead.",
        one_of=("auto", "off", "layers", "whole"),
    )
    activation_checkpointing: str = _option(
        "auto",
        "Compute activations twice instead of keeping them: on, off, or auto, where memory asks for it.",
        one_of=("auto", "on", "off"),
    )
    validate_steps: int = _option(0, "Validate every so many steps too; 0 for the end of each epoch only.", at_least=0)
    early_stopping: int = _option(0, "Stop after so many validations without a better WER; 0 for never.", at_least=0)
    seed: int = _option(1, "Decides order, batches and augmentation.", at_least=0)
    checkpoint_minutes: float = _option(2.0, "Minutes between checkpoints, from which a stopped run goes on; 0 for every step.", at_least=0)
    checkpoints_kept: int = _option(2, "The newest so many checkpoints are kept, beside the best weights.", at_least=1)
    device: str = _option("auto", "auto, cpu, cuda, or cuda:N for one GPU of several.")
    processes: int = _option(0, "Processes on this machine, one a GPU; 0 for all its GPUs, or one on a CPU.", at_least=0)
    threads: int = _option(0, "PyTorch's threads on a CPU; 0 for its own choice.", at_least=0)
    workers: int = _option(-1, "Processes that decode clips; -1 for as many as suit, 0 for none beside the training itself.", at_least=-1)

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            _check(option.name, getattr(self, option.name), option.metadata)
        if self.beta2 == 1:
            raise UsageError("beta2 is 1, so that gradients would never be counted; it must be under 1")
        if self.ema_decay == 1:
            raise UsageError("ema_decay is 1, so that the average would never move; it must be under 1")
        if self.label_smoothing == 1:
            raise UsageError("label_smoothing is 1, so that nothing of the transcripts would be learnt; it must be under 1")
        if self.bpe_dropout == 1:
            raise UsageError("bpe_dropout is 1, so that every label would be single bytes; it must be under 1")
        if self.seed >= 1 << 63:
            raise UsageError(f"seed is {self.seed}; it must be under 2**63")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"device is {self.device!r}; use auto, cpu, cuda, or cuda:N for one GPU of several")
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.lora_rank and self.freeze_encoder:
            raise UsageError("lora_rank and freeze_encoder are both set; adapters freeze all weights already: choose one")
        if self.lora_alpha and not self.lora_rank:
            raise UsageError(f"lora_alpha is {self.lora_alpha:g} and lora_rank is 0, so there is no adapter to scale; set lora_rank too")
        if self.micro_batch_seconds and self.batch_seconds and self.micro_batch_seconds > self.batch_seconds:
            raise UsageError(
                f"micro_batch_seconds is {self.micro_batch_seconds:g} and batch_seconds {self.batch_seconds:g};"
                " what is taken at once is a part of a step: make it no larger"
            )
        if self.device == "cpu" and self.precision == "fp16":
            raise UsageError("precision is fp16 and device cpu; fp16 needs a GPU: use fp32, or bf16 where the CPU has it")
        if self.processes > 1 and ":" in self.device:
            raise UsageError(f"processes is {self.processes} and device {self.device}; with one GPU there is one process: name no number")

    def decisive(self) -> dict[str, Any]:
        """The parameters that decide what comes of training, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_DECISIVE}


def parse_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options by name, as a form or a command gives them (text or JSON values), as the values of :class:`TrainingConfig`'s fields.

    Raises:
        UsageError: a name that is none, or a value of another type.
    """
    known = {option.name: option for option in dataclasses.fields(TrainingConfig) if option.name != "language"}
    parsed = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"{name!r} is no training option; there are {', '.join(sorted(known))}")
        parsed[name] = _parse(name, value, type(known[name].default))
    return parsed


def learning_rate_factor(step: int, *, total: int, warmup_share: float, schedule: str = "linear") -> float:
    """Linear warm-up from 0 to 1, then a linear or cosine fall to 0 at ``total``; ``step`` counts from 0."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, (total - step) / max(1, total - warmup))
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def _check(name: str, value: Any, rule: Any) -> None:
    if rule["one_of"] and value not in rule["one_of"]:
        raise UsageError(f"{name} is {value!r}; use {', '.join(rule['one_of'][:-1])} or {rule['one_of'][-1]}")
    if isinstance(value, str | bool):
        return
    low, over, high = rule["at_least"], rule["over"], rule["at_most"]
    if low == 0 and high == 1 and not (0 <= value <= 1):
        raise UsageError(f"{name} is {value}; it is a share, from 0 to 1")
    fits = math.isfinite(value) and (low is None or value >= low) and (over is None or value > over) and (high is None or value <= high)
    if not fits:
        told = ((low, "{:g} or more"), (over, "over {:g}"), (high, "at most {:g}"))
        bounds = [word.format(bound) for bound, word in told if bound is not None]
        raise UsageError(f"{name} is {value}; it must be {' and '.join(bounds) or 'finite'}")


def _parse(name: str, value: Any, kind: type) -> Any:
    words = {"true": True, "false": False}
    if kind is bool:
        value = words.get(value.lower(), value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
        raise UsageError(f"{name} is {value!r}; use true or false")
    try:
        if kind is str and isinstance(value, str):
            return value
        if kind is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind is float and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{name} is {value!r}; it takes {'text' if kind is str else 'a whole number' if kind is int else 'a number'}")

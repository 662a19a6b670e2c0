"""What this machine has, and what follows: device, precision, how much audio at once, whether compiling pays."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.errors import UsageError
from avskrift.training.config import TrainingConfig
from avskrift.training.presets import Preset, preset_for

_BYTES_A_WEIGHT = 16  # weight, gradient and AdamW's two moments, float32 each
_BYTES_OF_AVERAGE = 4
_USABLE = 0.85  # of the free memory; the rest is the allocator's fragments and cuBLAS's workspaces
_LEAST_AT_ONCE_SECONDS = 60.0  # two whole windows: where memory holds fewer, activations are computed twice
_CPU_AT_ONCE_SECONDS = 240.0
_REPLAYED_SHARE = 0.15  # a recording keeps its own activations beside those of steps that are not recorded
# benchmarks/training_throughput.py, on an H100: seconds that compiling takes a shape, and the share of the time that it saves.
_EAGER_SHARE = 0.21  # of the rate of a bare product
_COMPILERS = {"layers": (18.0, 0.16), "whole": (46.0, 0.28)}


@dataclass(frozen=True, slots=True)
class Memory:
    """Seconds of padded audio that the device takes at once, and whether activations must be computed twice for it.

    ``replayed``: that is so little of what the memory holds that launching its kernels takes longer than running them, and so
    forward and backward are recorded once a shape and replayed.
    """

    at_once_seconds: float
    checkpointed: bool
    replayed: bool = False


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a process; ``local_rank`` picks a GPU where ``name`` picks none.

    Raises:
        UsageError: a GPU that this machine does not have.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto" and not has_cuda:
        return torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", local_rank) if name in ("auto", "cuda") else torch.device(name)
    if not has_cuda or (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device is {name!r}, and PyTorch finds no such GPU on this machine; use auto or cpu")
    # Steps differ in shape: segments that grow leave no holes that no other shape fits. Read at the first allocation.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    torch.cuda.set_device(device)
    # cuDNN's attention, which PyTorch prefers on Hopper, made gradients NaN in bf16 where labels had a previous text (torch 2.11,
    # H200), and builds a plan for each shape, half of the time of a short training.
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def processes_here(config: TrainingConfig) -> int:
    """Processes that train on this machine: as configured, else one for each of its GPUs, or one."""
    if config.processes:
        return config.processes
    return max(1, torch.cuda.device_count()) if config.device in ("auto", "cuda") else 1


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that products are computed in; weights, moments and sums stay float32.

    Raises:
        UsageError: fp16 on a CPU.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.float32  # bfloat16 is slow there: a backward pass takes minutes where the CPU has no instructions for it
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if name == "fp16" and device.type == "cpu":
        raise UsageError("precision is fp16 and the device a CPU; fp16 needs a GPU: use fp32")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def choose_memory(model: WhisperForConditionalGeneration, config: TrainingConfig, device: torch.device, *, step_seconds: float) -> Memory:
    """How much fits, from what was measured of a model of this size; ``config`` may say otherwise.

    ``step_seconds`` are those of a process. Of windows that do not divide evenly it has one more than its share, at once if it fits.
    """
    asked = {"on": True, "off": False}.get(config.activation_checkpointing)
    step_seconds += WINDOW_SECONDS
    if device.type == "cpu":
        return Memory(config.micro_batch_seconds or min(step_seconds, _CPU_AT_ONCE_SECONDS), asked or False)
    preset = preset_of(model.config)
    room = _room_gigabytes(model, config, device) / (2 if config.precision == "fp32" else 1)
    fits, fits_checkpointed = room / preset.gigabytes_a_second, room / preset.checkpointed
    checkpointed = asked if asked is not None else (config.micro_batch_seconds or _LEAST_AT_ONCE_SECONDS) > fits
    holds = max(30.0, fits_checkpointed if checkpointed else fits)
    at_once = min(config.micro_batch_seconds or holds, step_seconds)
    return Memory(at_once, checkpointed, replayed=not checkpointed and at_once <= holds * _REPLAYED_SHARE)


def choose_compile(config: TrainingConfig, device: torch.device, dtype: torch.dtype, *, flops: float, shapes: int) -> str:
    """``off``, ``layers`` or ``whole``: what ends ``flops`` of work the soonest, compiling for ``shapes`` shapes included."""
    if config.compile != "auto":
        return config.compile
    if device.type == "cpu" or not _has_a_c_compiler():
        return "off"
    eager = flops / (_product_rate(device, dtype) * _EAGER_SHARE)
    ends = {"off": eager} | {name: cost * shapes + eager * (1 - saved) for name, (cost, saved) in _COMPILERS.items()}
    return min(ends, key=lambda name: ends[name])


def _has_a_c_compiler() -> bool:
    """Inductor and Triton build what launches their kernels with one; a hardened image has none."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return any(shutil.which(name) for name in names if name)


def trained_weights(parameters: Sequence[torch.nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def preset_of(config: WhisperConfig) -> Preset:
    return preset_for(width=config.d_model, decoder_layers=config.decoder_layers)


def _room_gigabytes(model: WhisperForConditionalGeneration, config: TrainingConfig, device: torch.device) -> float:
    """What is left for activations: the weights are there already, gradients and moments are not."""
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # the allocator's own stock
    trained = trained_weights([parameter for parameter in model.parameters() if parameter.requires_grad])
    due = trained * (_BYTES_A_WEIGHT - 4 + (_BYTES_OF_AVERAGE if config.ema_decay else 0))
    return max(0.0, free * _USABLE - due) / 1e9


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a bare product, measured in some hundredths of a second."""
    size, repeats = 4096, 10
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize(device)
    return repeats * 2.0 * size**3 / (time.perf_counter() - started)

"""How much GPU memory training takes: for each size of Whisper, what is always there and what a second of audio adds.

    python benchmarks/training_memory.py [--sizes tiny base ...] [--tiny]

One training step (forward, backward, AdamW) of random weights, bf16 where the GPU has it, not compiled, once the moments are
there: PyTorch's peak of allocated bytes at two batch sizes. A line through the two gives GB for a second of (padded) audio and
the rest. Labels have 4 tokens for each second, all of them learnt. avskrift/training/presets.py holds what came of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from training_data import SIZES
from transformers import WhisperForConditionalGeneration

from avskrift.whisper.forward import loss

_WINDOWS_SECONDS = (30, 6)
_TOKENS_A_SECOND = 4
# Seconds of audio in the two batches: the larger one fits 80 GB without activation checkpointing.
_AUDIO_SECONDS = {
    "toy": (60, 120),
    "tiny": (480, 960),
    "base": (480, 960),
    "small": (240, 480),
    "medium": (120, 240),
    "large-v3": (60, 120),
    "large-v3-turbo": (60, 120),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that one step allocated; 0 on a CPU, -1 where it did not fit."""

    size: str
    window_s: int
    checkpointed: bool
    audio_s: int
    gigabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=[size for size in SIZES if size != "toy"])
    parser.add_argument("--tiny", action="store_true", help="the toy size, on whatever device there is")
    parser.add_argument("--json", type=Path, help="write the peaks there too")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console(width=200)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU, whose memory is not counted"
    console.print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}", soft_wrap=True)
    peaks = [peak for size in (["toy"] if options.tiny else options.sizes) for peak in peaks_of(size, device)]
    console.print(table(peaks))
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(peak) for peak in peaks], indent=2), encoding="utf-8")


def peaks_of(size: str, device: torch.device) -> Iterator[Peak]:
    """All combinations for one size."""
    torch.manual_seed(1)
    with device:
        model = WhisperForConditionalGeneration(SIZES[size].config())
    model.config._attn_implementation = "sdpa"
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for window_s in _WINDOWS_SECONDS:
            for audio_s in _AUDIO_SECONDS[size]:
                yield Peak(
                    size=size,
                    window_s=window_s,
                    checkpointed=checkpointed,
                    audio_s=audio_s,
                    gigabytes=_peak_gigabytes(model, optimizer, audio_s // window_s, window_s, device),
                )
    del model, optimizer
    _forget(device)


def _peak_gigabytes(
    model: WhisperForConditionalGeneration, optimizer: torch.optim.AdamW, windows: int, window_s: int, device: torch.device
) -> float:
    """Of the second of two steps: the first one makes the moments."""
    tokens, vocabulary = _TOKENS_A_SECOND * window_s, model.config.vocab_size
    features = torch.randn(windows, model.config.num_mel_bins, 100 * window_s, device=device)
    inputs, targets = (torch.randint(vocabulary, shape, device=device) for shape in ((windows, tokens), (windows * tokens,)))
    positions = torch.arange(windows * tokens, device=device)
    precision = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    try:
        for _ in range(2):
            _forget(device)
            optimizer.zero_grad(set_to_none=False)
            with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
                value = loss(model, features, inputs, positions, targets)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            del value
    except torch.OutOfMemoryError:
        return -1.0
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def table(peaks: Sequence[Peak]) -> Table:
    made = Table(box=box.MARKDOWN)
    for title in ("size", "windows", "activations", "peaks, GB (s of audio)", "fixed, GB", "GB a second"):
        made.add_column(title, justify="left" if title in ("size", "windows", "activations") else "right")
    for (size, checkpointed, window_s), group in groupby(peaks, key=lambda peak: (peak.size, peak.checkpointed, peak.window_s)):
        less, more = group
        peaks_told = ", ".join(f"{'does not fit' if one.gigabytes < 0 else f'{one.gigabytes:.2f}'} ({one.audio_s})" for one in (less, more))
        row = [size, f"{window_s} s", "computed twice" if checkpointed else "kept", peaks_told]
        if min(less.gigabytes, more.gigabytes) >= 0:
            slope = (more.gigabytes - less.gigabytes) / (more.audio_s - less.audio_s)
            row += [f"{less.gigabytes - slope * less.audio_s:.2f}", f"{slope:.4f}"]
        made.add_row(*row)
    return made


if __name__ == "__main__":
    main()

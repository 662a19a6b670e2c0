"""Which clips are trained together: windows of mixed length, and batches of windows of like length.

Everything follows from (seed, epoch) and the clips' sizes, so a resumed run meets the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.training.config import TrainingConfig
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

GAP_SECONDS = 0.2  # silence between packed clips
TOKENS_AROUND_A_CLIP = 2  # its timestamps
LABEL_ROOM = MAX_LABEL_TOKENS - 4  # less the prompt; the closing token needs no position
_LENGTH_JITTER = 0.15  # windows within some 15 % of a length may share a batch, in an order that changes each epoch


@dataclass(frozen=True, slots=True)
class Window:
    """Indices of the clips that the encoder reads at once, in order, and their length together in seconds.

    A single clip is trained without timestamps, several with.
    """

    clips: tuple[int, ...]
    duration_s: float

    @property
    def packed(self) -> bool:
        return len(self.clips) > 1


@dataclass(frozen=True, slots=True)
class ClipSize:
    """What a clip takes of a window: seconds of audio, and tokens of its transcript."""

    duration_s: float
    tokens: int


def plan_epoch(sizes: Sequence[ClipSize], config: TrainingConfig, epoch: int) -> list[list[Window]]:
    """Batches of one epoch: every clip stands in exactly one window, every window in exactly one batch.

    A batch's padded audio (its windows times its longest) stays within ``config.batch_seconds``, one window at least.
    """
    chance = random.Random(f"{config.seed}/{epoch}")
    order = list(range(len(sizes)))
    chance.shuffle(order)
    packed = round(len(order) * config.packed_share)
    windows = _pack(order[:packed], sizes, chance) + [Window((index,), sizes[index].duration_s) for index in order[packed:]]
    windows.sort(key=lambda window: window.duration_s * (1 + _LENGTH_JITTER * chance.random()))
    batches = _batch(windows, config.batch_seconds)
    chance.shuffle(batches)
    return batches


def _pack(order: Sequence[int], sizes: Sequence[ClipSize], chance: random.Random) -> list[Window]:
    """Fill windows up to lengths drawn evenly between 0 and 30 s, so that all encoder contexts are met."""
    windows: list[Window] = []
    current: list[int] = []
    length, tokens, limit = 0.0, 0, chance.uniform(0, WINDOW_SECONDS)
    for index in order:
        size = sizes[index]
        needed = size.tokens + TOKENS_AROUND_A_CLIP
        if current and (length + GAP_SECONDS + size.duration_s > limit or tokens + needed > LABEL_ROOM):
            windows.append(Window(tuple(current), length))
            current, length, tokens, limit = [], 0.0, 0, chance.uniform(0, WINDOW_SECONDS)
        length += size.duration_s + (GAP_SECONDS if current else 0.0)
        tokens += needed
        current.append(index)
    return [*windows, Window(tuple(current), length)] if current else windows


def _batch(windows: Sequence[Window], budget: float) -> list[list[Window]]:
    batches: list[list[Window]] = []
    current: list[Window] = []
    longest = 0.0
    for window in windows:
        longest_with = max(longest, window.duration_s)
        if current and longest_with * (len(current) + 1) > budget:
            batches.append(current)
            current, longest_with = [], window.duration_s
        current.append(window)
        longest = longest_with
    return [*batches, current] if current else batches

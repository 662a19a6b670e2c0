"""Which clips are trained together: windows of mixed length, and steps of windows of like length.

Everything follows from (seed, epoch) and the clips' names, weights and sizes, so a resumed run meets the same batches, and
so do one process and several.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.training.config import TrainingConfig
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

GAP_SECONDS = 0.2  # silence between packed clips
TOKENS_AROUND_A_CLIP = 2  # its timestamps
LABEL_ROOM = MAX_LABEL_TOKENS - 4  # less the prompt; the closing token needs no position
NO_CLIP = -1
_LENGTH_JITTER = 0.15  # windows within some 15 % of a length may share a batch, in an order that changes each epoch
_STEPS_AN_EPOCH = 40
_STEP_SECONDS_AT_LEAST, _STEP_SECONDS_AT_MOST = 40.0, 640.0  # some ten clips of a tiny corpus, some 150 of a large one
_EDGE_GRID_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """Indices of the clips that the encoder reads at once, in order, and their length together in seconds.

    A single clip is trained without timestamps, several with; no clip at all is silence or noise, whose transcript is empty.
    ``previous`` is the clip whose text is given as what was said before.
    """

    clips: tuple[int, ...]
    duration_s: float
    previous: int = NO_CLIP

    @property
    def packed(self) -> bool:
        return len(self.clips) > 1


@dataclass(frozen=True, slots=True)
class ClipSize:
    """What a clip takes of a window: seconds of audio, and tokens of its transcript."""

    duration_s: float
    tokens: int


def step_seconds(sizes: Sequence[ClipSize], config: TrainingConfig) -> float:
    """Seconds of padded audio in an optimizer step: the configured ones, or those that give an epoch some 40 steps."""
    if config.batch_seconds:
        return config.batch_seconds
    share = sum(size.duration_s for size in sizes) / _STEPS_AN_EPOCH
    return min(max(share, _STEP_SECONDS_AT_LEAST), _STEP_SECONDS_AT_MOST)


def plan_epoch(
    sizes: Sequence[ClipSize],
    config: TrainingConfig,
    epoch: int,
    *,
    turns: Sequence[int] | None = None,
    edges: Sequence[float] = (),
) -> list[list[Window]]:
    """The steps of one epoch: every clip stands in as many windows as it has ``turns`` (one where None), a window in one step.

    A step's padded audio (its windows times its longest) stays within :func:`step_seconds`, one window at least. With
    ``edges`` every window counts as long as the next edge, so that steps have as many shapes as there are edges.
    """
    chance = random.Random(f"{config.seed}/{epoch}")
    windows = _windows(sizes, config, epoch, chance, turns)
    budget = step_seconds(sizes, config)
    if edges:
        chance.shuffle(windows)
        windows.sort(key=lambda window: padded_to(window.duration_s, edges))
        steps = _batch(windows, [padded_to(window.duration_s, edges) for window in windows], budget)
    else:
        windows.sort(key=lambda window: window.duration_s * (1 + _LENGTH_JITTER * chance.random()))
        steps = _batch(windows, [window.duration_s for window in windows], budget)
    chance.shuffle(steps)
    return steps


def padded_to(seconds: float, edges: Sequence[float]) -> float:
    """The first of the rising ``edges`` that is not under ``seconds``; the last where none is."""
    return edges[min(bisect_left(edges, seconds - 1e-9), len(edges) - 1)]


def bucket_edges(durations: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` edges, on a grid of half a second, that pad windows of these lengths the least in sum.

    Dynamic programming over the grid: the best split of the windows up to a cell into n buckets, the last ending there.
    """
    cells = [0] * (math.ceil(WINDOW_SECONDS / _EDGE_GRID_SECONDS) + 1)
    for duration in durations:
        cells[math.ceil(min(duration, WINDOW_SECONDS) / _EDGE_GRID_SECONDS - 1e-9)] += 1
    last = max((cell for cell, held in enumerate(cells) if held), default=len(cells) - 1)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for _ in range(count):
        longer = dict(best)
        for end in range(1, last + 1):
            choices = [(cost + end * sum(cells[start + 1 : end + 1]), (*ends, end)) for start, (cost, ends) in best.items() if start < end]
            longer[end] = min([*choices, *([best[end]] if end in best else [])])
        best = longer
    return tuple(end * _EDGE_GRID_SECONDS for end in best[last][1])


def turns_of(clip_id: str, weight: float, *, seed: int, epoch: int) -> int:
    """How often ``epoch`` meets a clip of this weight: ``weight`` times, rounded down or up.

    Over the first n epochs its turns add up to ``weight`` times n, rounded down or up, so that at 0.5 every clip is met in
    one of two epochs in a row. A hash of the seed and the clip's name, at whatever place it stands, decides where it begins.
    """
    if weight % 1 == 0:
        return int(weight)
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    begins, step = Fraction(int.from_bytes(digest[:8], "big"), 1 << 64), Fraction(weight)
    return math.floor(begins + step * (epoch + 1)) - math.floor(begins + step * epoch)


def _windows(
    sizes: Sequence[ClipSize], config: TrainingConfig, epoch: int, chance: random.Random, turns: Sequence[int] | None
) -> list[Window]:
    order = [index for index, count in enumerate(turns or [1] * len(sizes)) for _ in range(count)]
    chance.shuffle(order)
    packed = round(len(order) * config.packed_share)
    windows = _pack(order[:packed], sizes, chance) + [Window((index,), sizes[index].duration_s) for index in order[packed:]]
    # A source of their own: these options change nothing about the windows of the others.
    extra = random.Random(f"{config.seed}/{epoch}/extra")
    if config.previous_text_share:
        windows = [_with_previous(window, order, config.previous_text_share, extra) for window in windows]
    # As long as the windows of speech: nobody's silence shall be told by its length, nor cost more than its share.
    return windows + [Window((), extra.choice(windows).duration_s) for _ in range(round(len(order) * config.empty_share))]


def _with_previous(window: Window, order: Sequence[int], share: float, chance: random.Random) -> Window:
    given, previous = chance.random() < share, chance.choice(order)
    return replace(window, previous=previous) if given and previous not in window.clips else window


def _pack(order: Sequence[int], sizes: Sequence[ClipSize], chance: random.Random) -> list[Window]:
    """Fill windows up to lengths drawn evenly between 0 and 30 s, so that all encoder contexts are met.

    A window ends before a clip that it holds already: the second time would teach the decoder to repeat itself.
    """
    windows: list[Window] = []
    current: list[int] = []
    length, tokens, limit = 0.0, 0, chance.uniform(0, WINDOW_SECONDS)
    for index in order:
        size = sizes[index]
        needed = size.tokens + TOKENS_AROUND_A_CLIP
        full = length + GAP_SECONDS + size.duration_s > limit or tokens + needed > LABEL_ROOM
        if current and (full or index in current):
            windows.append(Window(tuple(current), length))
            current, length, tokens, limit = [], 0.0, 0, chance.uniform(0, WINDOW_SECONDS)
        length += size.duration_s + (GAP_SECONDS if current else 0.0)
        tokens += needed
        current.append(index)
    return [*windows, Window(tuple(current), length)] if current else windows


def _batch(windows: Sequence[Window], lengths: Sequence[float], budget: float) -> list[list[Window]]:
    """Consecutive windows together while their padded audio fits: the number of windows times the longest."""
    batches: list[list[Window]] = []
    current: list[Window] = []
    longest = 0.0
    for window, length in zip(windows, lengths, strict=True):
        longest_with = max(longest, length)
        if current and longest_with * (len(current) + 1) > budget:
            batches.append(current)
            current, longest_with = [], length
        current.append(window)
        longest = longest_with
    return [*batches, current] if current else batches

"""A whole run, planned before it begins: its steps, what each process takes at once, and the shapes of the tensors.

The plan is the sampler: with what it was made with, a step's number is all that a resumed run needs to know. It does not hang
on how many processes train, except that a step is cut into as many equal parts as they need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from avskrift.audio.constants import FRAMES_PER_POSITION, HOP_LENGTH, SAMPLE_RATE, WINDOW_SECONDS
from avskrift.corpus.dataset import Clip
from avskrift.errors import TrainingError
from avskrift.training.config import TrainingConfig
from avskrift.training.windows import NO_CLIP, TOKENS_AROUND_A_CLIP, ClipSize, Window, bucket_edges, padded_to, plan_epoch, turns_of
from avskrift.whisper.tokens import MAX_LABEL_TOKENS

BUCKETS = 4  # shapes to compile for, each some tens of seconds
BUCKETS_NOT_COMPILED = 8  # a shape costs little then, and the model meets more lengths
LONGEST_PREVIOUS_TEXT = MAX_LABEL_TOKENS // 2 - 1  # tokens; as in openai/whisper
_PROMPT, _PROMPT_WITH_TIMESTAMPS = 4, 3
_TOKEN_GRID, _LEARNT_GRID = 8, 128
_ROOM_FOR_SMALLER_PIECES = 1.5  # tokens of a label whose merges are dropped; what needs more keeps its merges


@dataclass(frozen=True, slots=True)
class Shape:
    """The static shape of a part: windows, samples of each, tokens of each, and positions that are learnt of all together."""

    windows: int
    samples: int
    tokens: int
    learnt: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one process takes at once: ``windows``, the step's from its number ``first`` on. ``share`` is its part of the learnt tokens.

    Without a ``shape`` it is padded to ``samples`` at least: the step's longest window. The model hears padding, so that a
    step would otherwise come to something else with every number of parts.
    """

    windows: tuple[Window, ...]
    share: float
    shape: Shape | None = None
    samples: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step. Process r of n takes the parts r, r + n and so on: as many as every other."""

    parts: tuple[Part, ...]

    @property
    def windows(self) -> list[Window]:
        return [window for part in self.parts for window in part.windows]


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a run, and the numbers of those after which an epoch has ended (counted from 1).

    Its parts have one of ``buckets`` static shapes; 0 where each has a length of its own. With another number a step's number is
    that of other windows.
    """

    steps: tuple[Step, ...]
    epoch_ends: tuple[int, ...]
    buckets: int

    @property
    def shapes(self) -> frozenset[Shape | None]:
        return frozenset(part.shape for step in self.steps for part in step.parts)


def plan_run(
    clips: Sequence[Clip],
    sizes: Sequence[ClipSize],
    config: TrainingConfig,
    *,
    at_once_seconds: float,
    processes: int,
    static: bool,
    buckets: int = BUCKETS,
) -> Plan:
    """Plan every epoch; at most ``at_once_seconds`` of padded audio in a part, one window at least.

    ``static`` gives all parts one of ``buckets`` shapes, with empty rows where windows lack: what torch.compile needs.

    Raises:
        TrainingError: the clips' weights are so small that no epoch meets any.
    """
    turns = [[turns_of(clip.clip_id, clip.weight, seed=config.seed, epoch=epoch) for clip in clips] for epoch in range(config.epochs)]
    edges = _edges(sizes, config, turns[0], buckets) if static else ()
    epochs = [plan_epoch(sizes, config, epoch, turns=counts, edges=edges) for epoch, counts in enumerate(turns)]
    if not any(epochs):
        raise TrainingError(f"{config.epochs} epochs meet none of the train clips, so small are their weights; train for more epochs")
    steps = [_cut(windows, sizes, config, edges, at_once_seconds, processes) for epoch in epochs for windows in epoch]
    if static:
        steps = _with_shapes(steps, sizes, config, edges)
    ends = tuple(accumulate(len(epoch) for epoch in epochs))
    return Plan(tuple(steps[: config.max_steps] if config.max_steps else steps), ends, buckets if static else 0)


def label_size(window: Window, sizes: Sequence[ClipSize], *, with_start: bool = False) -> tuple[int, int]:
    """Positions that the decoder reads for a window, and those of them that are learnt; see :func:`learns_start`."""
    spoken = sum(sizes[index].tokens for index in window.clips)
    around = TOKENS_AROUND_A_CLIP * len(window.clips) if window.packed else 0
    prompt = _PROMPT_WITH_TIMESTAMPS if window.packed else _PROMPT
    read = prompt + spoken + around
    room = min(LONGEST_PREVIOUS_TEXT, MAX_LABEL_TOKENS - 1 - read)
    if window.previous != NO_CLIP and room > 0:
        read += 1 + min(sizes[window.previous].tokens, room)
    return read, spoken + around + 1 + with_start


def learns_start(config: TrainingConfig) -> bool:
    """Whether what follows the start token is learnt: the language, or that nobody speaks. With empty windows only, which teach it."""
    return config.empty_share > 0


def _edges(sizes: Sequence[ClipSize], config: TrainingConfig, turns: Sequence[int], buckets: int) -> tuple[float, ...]:
    """Edges that suit the first epoch; the last holds any window of any epoch."""
    durations = [window.duration_s for step in plan_epoch(sizes, config, 0, turns=turns) for window in step]
    longest = WINDOW_SECONDS if config.packed_share else max(size.duration_s for size in sizes)
    return bucket_edges([*durations, longest], buckets)


def _cut(
    windows: Sequence[Window], sizes: Sequence[ClipSize], config: TrainingConfig, edges: Sequence[float], at_once: float, processes: int
) -> Step:
    """Equal parts, as many as memory asks for and a multiple of the processes; where windows are too few, some parts are empty."""
    longest = max(window.duration_s for window in windows)
    rows = max(1, math.floor(at_once / (padded_to(longest, edges) if edges else longest)))
    count = processes * math.ceil(len(windows) / (processes * rows))
    learnt = [label_size(window, sizes, with_start=learns_start(config))[1] for window in windows]
    each = math.ceil(len(windows) / count)
    cuts = [slice(start, start + each) for start in range(0, each * count, each)]
    samples = padded_samples(round(longest * SAMPLE_RATE))
    parts = [
        Part(tuple(windows[cut]), sum(learnt[cut]) / sum(learnt), samples=samples if windows[cut] else 0, first=cut.start) for cut in cuts
    ]
    return Step(tuple(parts))


def _with_shapes(steps: Sequence[Step], sizes: Sequence[ClipSize], config: TrainingConfig, edges: Sequence[float]) -> list[Step]:
    """Give each part the smallest shape that holds every part of its bucket."""
    buckets = [padded_to(max(window.duration_s for window in step.windows), edges) for step in steps]
    shapes: dict[float, Shape] = {}
    for edge, step in zip(buckets, steps, strict=True):
        for part in step.parts:
            shapes[edge] = _larger(shapes.get(edge), part, sizes, edge, with_start=learns_start(config))
    if config.bpe_dropout:
        shapes = {edge: _roomier(shape) for edge, shape in shapes.items()}
    return [
        Step(tuple(replace(part, shape=shapes[edge], samples=0) for part in step.parts)) for edge, step in zip(buckets, steps, strict=True)
    ]


def _larger(shape: Shape | None, part: Part, sizes: Sequence[ClipSize], edge: float, *, with_start: bool) -> Shape:
    labels = [label_size(window, sizes, with_start=with_start) for window in part.windows]
    tokens = max((read for read, _ in labels), default=1)
    learnt = sum(count for _, count in labels)
    known = shape or Shape(1, 1, 1, 1)
    return Shape(
        windows=max(known.windows, len(part.windows)),
        samples=padded_samples(round(edge * SAMPLE_RATE)),
        tokens=min(MAX_LABEL_TOKENS, max(known.tokens, _up(tokens, _TOKEN_GRID))),
        learnt=max(known.learnt, _up(learnt, _LEARNT_GRID)),
    )


def _roomier(shape: Shape) -> Shape:
    tokens = min(MAX_LABEL_TOKENS, _up(shape.tokens * _ROOM_FOR_SMALLER_PIECES, _TOKEN_GRID))
    learnt = min(shape.windows * tokens, _up(shape.learnt * _ROOM_FOR_SMALLER_PIECES, _LEARNT_GRID))
    return Shape(shape.windows, shape.samples, tokens, learnt)


def padded_samples(samples: int) -> int:
    """``samples``, up to a whole number of encoder positions."""
    return _up(samples, HOP_LENGTH * FRAMES_PER_POSITION)


def _up(value: float, grid: int) -> int:
    return grid * math.ceil(value / grid)

"""Clips joined into long recordings whose boundaries are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from avskrift.audio.constants import FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE
from avskrift.evaluation.sounds import noise_floor
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.whisper.transcript import Audio

PAUSE_SECONDS = (0.3, 1.0)  # before each clip
_SPEECH_LEVEL = 10 ** (-30 / 20)  # of the loudest frame's: what is below it before and after the speech is a clip's own silence
_SEED = 20_261_129


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedClip:
    """``index`` counts the clips that were joined; the seconds are where in the recording its speech begins and ends."""

    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedRecording:
    """Clips one after the other, with a quiet room's noise between them."""

    samples: Audio
    clips: tuple[PlacedClip, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def join_clips(clips: Sequence[SpokenClip], *, seconds: float, recordings: int) -> list[JoinedRecording]:
    """Fill up to ``recordings`` recordings of up to ``seconds`` with the clips in their order; those that no longer fit are left out.

    The same clips give the same samples. A clip that is longer than a recording may be gets one of its own.
    """
    return list(islice(_filled(clips, seconds), recordings))


def _filled(clips: Sequence[SpokenClip], seconds: float) -> Iterator[JoinedRecording]:
    generator = np.random.default_rng(_SEED)
    parts: list[Audio] = []
    placed: list[PlacedClip] = []
    length = 0
    for index, clip in enumerate(clips):
        pause = noise_floor(generator.uniform(*PAUSE_SECONDS), generator)
        if placed and length + len(pause) + len(clip.samples) > seconds * SAMPLE_RATE:
            yield JoinedRecording(samples=np.concatenate(parts), clips=tuple(placed))
            parts, placed, length = [], [], 0
        begins, ends = speech_bounds(clip.samples)
        offset = (length + len(pause)) / SAMPLE_RATE
        placed.append(PlacedClip(index=index, start_s=offset + begins, end_s=offset + ends))
        parts += [pause, clip.samples]
        length += len(pause) + len(clip.samples)
    if placed:
        yield JoinedRecording(samples=np.concatenate(parts), clips=tuple(placed))


def speech_bounds(samples: Audio) -> tuple[float, float]:
    """Seconds at which a clip's speech begins and ends, by loudness, to a hundredth: recordings seldom begin with their first word."""
    frames = samples[: len(samples) // HOP_LENGTH * HOP_LENGTH].reshape(-1, HOP_LENGTH)
    if not len(frames):
        return 0.0, len(samples) / SAMPLE_RATE
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    loud = np.flatnonzero(levels >= _SPEECH_LEVEL * levels.max())
    return int(loud[0]) / FRAMES_PER_SECOND, (int(loud[-1]) + 1) / FRAMES_PER_SECOND

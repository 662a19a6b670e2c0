"""Where a recording is quiet, by its loudness alone: the spot to cut it at, and the pauses between words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avskrift.audio.constants import FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE
from avskrift.whisper.transcript import Audio

_SILENCE_PEAK = 1e-4  # -80 dBFS: below it there is nothing to transcribe
_SPOT_SAMPLES = SAMPLE_RATE // 10
_PAUSE_FRAMES, _EDGE_FRAMES = 15, 3  # of 10 ms: between words shorter ones are consonants; a window's edges are silence anyway
# A pause is what lies in the lowest quarter, in dB, between the quietest and the loudest that a window holds; the quietest
# counts as at most 60 dB down, or digital silence would make speech of a quiet room.
_QUIETEST_PERCENTILE, _LOUDEST_PERCENTILE = 10, 95
_PAUSE_SHARE, _RANGE_DB = 0.25, 60.0
_LEAST_CONTRAST_DB = 6.0


def is_silent(samples: Audio) -> bool:
    """Whether there is nothing to transcribe. It takes no memory of the samples' size."""
    return not len(samples) or max(float(samples.max()), -float(samples.min())) <= _SILENCE_PEAK


def quietest_spot(samples: Audio) -> int:
    """The middle of the quietest tenth of a second. There must be one."""
    spots = samples[: len(samples) // _SPOT_SAMPLES * _SPOT_SAMPLES].reshape(-1, _SPOT_SAMPLES)
    return int(np.argmin(np.mean(np.square(spots), axis=1))) * _SPOT_SAMPLES + _SPOT_SAMPLES // 2


def pauses(samples: Audio) -> list[tuple[float, float]]:
    """Stretches in which nobody speaks, begin and end in seconds: of 0.15 s or more, and of 0.03 s at the samples' edges.

    Noise that is as loud as the speech hides them.
    """
    levels = _levels(samples)
    if not len(levels):
        return []
    quietest, loudest = np.percentile(levels, (_QUIETEST_PERCENTILE, _LOUDEST_PERCENTILE))
    quietest = max(quietest, loudest - _RANGE_DB)
    if loudest - quietest < _LEAST_CONTRAST_DB:
        return []
    return _runs(levels < quietest + _PAUSE_SHARE * (loudest - quietest))


def _levels(samples: Audio) -> npt.NDArray[np.float64]:
    """The level of each 10 ms, in dB, over itself and its two neighbours."""
    frames = samples[: len(samples) // HOP_LENGTH * HOP_LENGTH].reshape(-1, HOP_LENGTH)
    if not len(frames):
        return np.zeros(0)
    power = np.pad(np.mean(np.square(frames, dtype=np.float64), axis=1), 1, mode="edge")
    levels: npt.NDArray[np.float64] = 10 * np.log10((power[:-2] + power[1:-1] + power[2:]) / 3 + 1e-12)
    return levels


def _runs(quiet: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    at_edge = {0, len(quiet)}
    return [
        (start / FRAMES_PER_SECOND, end / FRAMES_PER_SECOND)
        for start, end in pairs
        if end - start >= (_EDGE_FRAMES if at_edge & {start, end} else _PAUSE_FRAMES)
    ]

"""Where somebody speaks: the silero network, as faster-whisper ships it, run over a recording of any length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from faster_whisper.vad import get_vad_model

from avskrift.whisper.transcript import Audio

FRAME_SAMPLES = 512  # 32 ms: what the network judges at once
_PART_FRAMES = 4_000  # some two minutes: the network's input and its activations are stacked for all frames of a call
_LEAD_FRAMES = 160  # some five seconds before a part: the network remembers what it heard
# silero's own: speech begins over the first, and lasts until the probability has been under the second for a while.
_BEGINS, _LASTS = 0.5, 0.35
_PAUSE_FRAMES = 6  # 0.2 s: the closure of a p or a t is shorter, so a cut in a pause cuts no word


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a recording: samples from ``start`` up to, and without, ``end``."""

    start: int
    end: int


def find_speech(samples: Audio) -> list[Stretch]:
    """The stretches in which somebody speaks, in order, with at least 0.2 s between them. Safe to call from several threads."""
    return speech_stretches(speech_probabilities(samples), len(samples))


def speech_probabilities(samples: Audio) -> npt.NDArray[np.float32]:
    """The probability of speech in each frame of 32 ms, shape (frames,); the last frame may be begun only."""
    parts = [np.zeros(0, np.float32), *(_part_probabilities(samples, start) for start in _part_starts(len(samples)))]
    return np.concatenate(parts)


def speech_stretches(probabilities: npt.NDArray[np.float32], samples: int) -> list[Stretch]:
    """Join frames into stretches; ``samples`` is the recording's length, which the last frame may reach beyond."""
    stretches: list[Stretch] = []
    start = quiet = -1  # the frames at which speech began and at which it last fell quiet
    for frame, probability in enumerate(probabilities):
        if start < 0:
            if probability >= _BEGINS:
                start, quiet = frame, -1
        elif probability >= _BEGINS:
            quiet = -1
        elif probability < _LASTS and quiet < 0:
            quiet = frame
        if start >= 0 and 0 <= quiet <= frame + 1 - _PAUSE_FRAMES:
            stretches.append(Stretch(start * FRAME_SAMPLES, quiet * FRAME_SAMPLES))
            start = -1
    if start >= 0:
        end = quiet if quiet >= 0 else len(probabilities)
        stretches.append(Stretch(start * FRAME_SAMPLES, min(end * FRAME_SAMPLES, samples)))
    return stretches


def _part_starts(samples: int) -> Iterator[int]:
    yield from range(0, samples, _PART_FRAMES * FRAME_SAMPLES)


def _part_probabilities(samples: Audio, start: int) -> npt.NDArray[np.float32]:
    begin = max(0, start - _LEAD_FRAMES * FRAME_SAMPLES)
    part = samples[begin : start + _PART_FRAMES * FRAME_SAMPLES]
    padded = np.pad(part, (0, -len(part) % FRAME_SAMPLES))  # a copy: the network's wrapper writes into what it is given
    probabilities = np.asarray(get_vad_model()(padded), dtype=np.float32).reshape(-1)
    return probabilities[(start - begin) // FRAME_SAMPLES :]

"""Clips that a scripted engine can tell apart, for tests of the measures: the engine stands at the edge, all else is real.

Clip ``number`` is a tone of its own loudness, with a little silence before and after; the engine hears in any recording
which clips it holds and where, and answers with what the script says of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.whisper.transcript import Audio, Options, Segment, Transcript, Word

RATE = 16_000
MARGIN_SECONDS = 0.2  # of silence in a clip, before and after
_STEP = 0.01  # of loudness from one clip to the next
_SHORTEST = RATE // 100


def spoken(number: int, text: str, *, seconds: float = 4.0, speaker: str = "") -> SpokenClip:
    samples = np.full(round(seconds * RATE), (number + 1) * _STEP, dtype=np.float32)
    margin = round(MARGIN_SECONDS * RATE)
    samples[:margin] = samples[len(samples) - margin :] = 0
    return SpokenClip(clip_id=f"clip-{number}", text=text, speaker_id=speaker, duration_s=seconds, samples=samples)


class ScriptedEngine:
    """Hears ``says(number)`` where clip ``number`` sounds, and ``says(None)`` in a recording that holds none.

    Words are spread evenly over the clip, a segment of its own; ``late_s`` shifts them. Without ``word_times`` only segments
    have times; ``in_one_segment`` there is one segment from the recording's beginning to its end.
    """

    languages = frozenset({"sv"})

    def __init__(
        self,
        says: Callable[[int | None], str],
        *,
        word_times: bool = True,
        in_one_segment: bool = False,
        late_s: float = 0.0,
        missing: int = 0,
    ) -> None:
        self._says, self._word_times, self._late_s, self._missing = says, word_times, late_s, missing
        self._in_one_segment = in_one_segment
        self.calls: list[tuple[list[Audio], Options]] = []

    def identity(self) -> str:
        return "a scripted engine"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        self.calls.append((list(recordings), options))
        return [self._hear(samples) for samples in recordings][self._missing :]

    def _hear(self, samples: Audio) -> Transcript:
        found = _clips_in(samples)
        segments = [self._segment(self._says(number), start, end) for number, start, end in found]
        text = " ".join(segment.text for segment in segments) if found else self._says(None)
        seconds = len(samples) / RATE
        if self._in_one_segment:
            words = tuple(word for segment in segments for word in segment.words)
            segments = [Segment(start_s=0.0, end_s=seconds, text=text, avg_logprob=-0.1, no_speech_prob=0.0, words=words)]
        return Transcript(text=text, language="sv", duration_s=seconds, segments=tuple(segments))

    def _segment(self, text: str, start: float, end: float) -> Segment:
        start, end = start + self._late_s, end + self._late_s
        said = text.split()
        edges = np.linspace(start, end, num=len(said) + 1)
        words = tuple(
            Word(start_s=float(edges[place]), end_s=float(edges[place + 1]), text=f" {word}", probability=0.9)
            for place, word in enumerate(said)
        )
        return Segment(start_s=start, end_s=end, text=text, avg_logprob=-0.1, no_speech_prob=0.0, words=words if self._word_times else ())


def _clips_in(samples: Audio) -> list[tuple[int, float, float]]:
    """(number, start in s, end in s) of each stretch that is loud and does not change, as no noise is."""
    flat = (np.diff(samples, prepend=0) == 0) & (samples > _STEP / 2)
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
    return [
        (round(float(samples[start]) / _STEP) - 1, (start - 1) / RATE, end / RATE)
        for start, end in zip(turns[::2], turns[1::2], strict=True)
        if end - start >= _SHORTEST
    ]

"""How long one clip takes when nothing shares its batch, as at an endpoint with one caller."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from avskrift.whisper.transcript import Audio, Options, Transcriber

CLIPS = 30


def measure_latency(recordings: Sequence[Audio], transcriber: Transcriber, *, language: str) -> tuple[float, float, int]:
    """Median and 95th percentile in seconds of transcribing one recording, and of how many; zeros where there are none.

    The first is transcribed once more before, since a first call also pays for what later ones find ready.

    Raises:
        LanguageError: the model does not know ``language``.
    """
    timed = recordings[:CLIPS]
    if not timed:
        return 0.0, 0.0, 0
    options = Options(language=language)
    transcriber.transcribe(timed[:1], options)
    seconds = [_seconds(recording, transcriber, options) for recording in timed]
    median, high = np.percentile(seconds, [50, 95])
    return float(median), float(high), len(timed)


def _seconds(recording: Audio, transcriber: Transcriber, options: Options) -> float:
    started = time.perf_counter()
    transcriber.transcribe([recording], options)
    return time.perf_counter() - started
